//! Which built-in functions are harmless.

/// True if the function of `pg_catalog` is known to change nothing, block nothing and reveal nothing but its arguments
/// and the structure.
pub fn is_harmless_builtin(name: &str) -> bool {
    let _ = name;
    false
}
