//! Configuration: text in, typed and validated [`Config`] out.

mod types;

pub use types::*;
