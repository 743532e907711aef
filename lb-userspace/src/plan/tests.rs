pub(crate) mod histories;
pub(crate) mod model;
mod reader;
mod scale;
mod steps;
