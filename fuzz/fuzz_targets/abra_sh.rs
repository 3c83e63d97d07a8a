//! `abra.sh`, which is read for its exports and never run.
#![no_main]

use harness::recipe::env::AppEnv;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut env = AppEnv::default();
    let _ = env.merge_abra_sh(text);
    for (key, _) in env.iter() {
        assert!(!key.is_empty() && !key.contains(['\n', '=', ' ']), "{key:?}");
    }
});
