//! Several replicas on one PostgreSQL that flushes every commit.

pub(crate) mod age;
pub(crate) mod news;
pub(crate) mod throughput;
