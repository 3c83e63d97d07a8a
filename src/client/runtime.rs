//! The runtime of the test process.

use std::sync::LazyLock;

use crate::keeper;

/// The runtime of the test process. More threads than cores, because an assertion may block one of them for good.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(8)
            .thread_stack_size(keeper::STACK)
            .enable_all()
            .build();
        runtime.expect("threads can be started")
    });
    &RUNTIME
}
