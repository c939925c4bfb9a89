//! Arguments of `list` and `doctor`.

use clap::Args;

use super::{FormatArg, SandboxArg};

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) sandbox: SandboxArg,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}
