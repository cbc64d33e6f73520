//! Masks on what comes back. What to mask is decided once for a statement ([`plan`]), how, when its columns' types and
//! formats are known ([`value`]), and then it is done to each row in place.
//!
//! A mask belongs to the statement that runs. A RowDescription that the client has seen earlier decides nothing: where a
//! portal is executed, the gateway asks the server itself what it gives.

mod array;
pub(crate) mod asked;
pub mod copy;
pub mod plan;
pub mod reveal;
pub mod row;
pub mod value;
