//! Backends that a DNS server, a file or an HTTP endpoint names: followed when they say something, kept when they do not.

mod dns;
mod file;
mod http;
mod stage;
