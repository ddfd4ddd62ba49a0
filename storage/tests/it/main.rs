//! The store as its users see it: real log, real objects, a disk in memory.

mod backup;
mod bounds;
mod cancel;
mod compaction;
mod corruption;
mod crashes;
mod damage;
mod deletes;
mod downsampling;
mod entries;
mod facts;
mod faults;
mod full;
mod giving_up;
mod late;
mod losses;
mod many_series;
mod model;
mod noise;
mod placement;
mod pruning;
mod reader;
mod retention;
mod s3;
mod store;
