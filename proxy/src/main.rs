//! The binary `manifold`.
fn main() {}
