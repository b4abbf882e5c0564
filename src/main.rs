//! The `snowglobe` program: starts one member.

fn main() {}
