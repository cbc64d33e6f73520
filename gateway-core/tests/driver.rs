//! The driver and the pipeline, between real sockets and pipes, with a protocol of lines. (`cfg(test)` tells
//! clippy that helpers are tests, too.)

#[cfg(test)]
#[path = "driver/lines.rs"]
mod lines;
#[cfg(test)]
#[path = "driver/world.rs"]
mod world;

#[cfg(test)]
#[path = "driver/auditing.rs"]
mod auditing;
#[cfg(test)]
#[path = "driver/backpressure.rs"]
mod backpressure;
#[cfg(test)]
#[path = "driver/endings.rs"]
mod endings;
#[cfg(test)]
#[path = "driver/holding.rs"]
mod holding;
#[cfg(test)]
#[path = "driver/leases.rs"]
mod leases;
#[cfg(test)]
#[path = "driver/listening.rs"]
mod listening;
#[cfg(test)]
#[path = "driver/own.rs"]
mod own;
#[cfg(test)]
#[path = "driver/time.rs"]
mod time;
