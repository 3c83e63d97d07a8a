//! Labels of a service: `key=value` a line, for the backup, the route, the timeout and the identity.
#![no_main]

use harness::recipe::stack::{Service, Stack};
use harness::recipe::{abra, backup, route};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut service = Service::default();
    for line in text.lines() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        service.deploy.labels.insert(key.to_owned(), value.to_owned());
    }
    let labels = service.deploy.labels.clone();
    let mut stack = Stack { name: "app_example_org".into(), ..Stack::default() };
    stack.services.insert("app".into(), service);
    let _ = backup::plan(&stack);
    let _ = route::find(&stack, "app.example.org");
    let _ = abra::timeout(&stack);
    let _ = abra::identity(&labels, &stack.name);
});
