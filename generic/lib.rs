//! Empty: it makes editors look into this folder. See `tests/Cargo.toml`.

fn main() {}
