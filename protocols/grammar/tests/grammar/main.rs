//! The grammars against recorded vectors and each other.

#![allow(clippy::unwrap_used)]

mod conntrack_vectors;
mod ipvs_incumbent;
mod ipvs_roundtrip;
mod ipvs_vectors;
mod table;
