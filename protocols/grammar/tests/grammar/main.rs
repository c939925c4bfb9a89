//! Tests of the grammars against vectors recorded from the original programs.

#![allow(clippy::unwrap_used)]

mod conntrack_vectors;
mod ipvs_incumbent;
mod ipvs_roundtrip;
mod ipvs_vectors;
mod table;
