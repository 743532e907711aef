//! `lbctl`: arguments in, calls of the API, tables or JSON out. Nothing here knows the daemon's insides.

pub mod args;
pub mod print;
