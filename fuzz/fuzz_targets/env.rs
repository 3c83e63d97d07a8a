//! An `.env` file: whatever is read says the same once it is written and read again.
#![no_main]

use harness::recipe::env::AppEnv;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(env) = AppEnv::parse(text) else { return };
    let _ = env.secrets();
    let written = env.render();
    let again = AppEnv::parse(&written).unwrap_or_else(|error| panic!("{error:#} in {written:?}"));
    let (first, second): (Vec<_>, Vec<_>) = (env.iter().collect(), again.iter().collect());
    assert_eq!(first, second, "written as {written:?}");
});
