mod histories;
mod model;
mod reader;
mod steps;
