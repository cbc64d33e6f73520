//! Rebuilds when a migration is added: the macro that embeds them can't say so on stable Rust.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
