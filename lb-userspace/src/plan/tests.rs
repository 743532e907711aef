mod histories;
mod model;
mod reader;
mod scale;
mod steps;
