//! Generates the wire types and the ttrpc service into `OUT_DIR`; no `protoc` is needed.

use std::path::Path;
use std::{env, fs};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = env::var("OUT_DIR")?;
    Codegen::new()
        .out_dir(&out)
        .inputs([
            "proto/agent.proto",
            "proto/conntrack.proto",
            "proto/events.proto",
            "proto/failure.proto",
            "proto/ipvs.proto",
            "proto/kata.proto",
        ])
        .include("proto")
        .rust_protobuf()
        .rust_protobuf_customize(
            ProtobufCustomize::default()
                .gen_mod_rs(false)
                .lite_runtime(true),
        )
        .customize(Customize {
            async_all: true,
            ..Customize::default()
        })
        .run()?;
    // The generated files start with inner attributes, so they can only be included as files of
    // modules; ttrpc-codegen's own mod.rs leaves the message modules out.
    fs::write(
        Path::new(&out).join("mod.rs"),
        "pub mod agent;\npub mod agent_ttrpc;\npub mod conntrack;\npub mod conntrack_ttrpc;\npub mod events;\npub mod events_ttrpc;\npub mod failure;\npub mod ipvs;\npub mod ipvs_ttrpc;\npub mod kata;\npub mod kata_ttrpc;\n",
    )?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
