//! Runbooks: commands that operators named, with typed parameters.
