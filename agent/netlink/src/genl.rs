//! Generic netlink: message header and lookup of a family's id.

use crate::{Attrs, Batch, Body, Error, Flags, Generic, Transport, get, read_u16};

/// Size of `genlmsghdr` in bytes: command u8, version u8, reserved u16.
pub const HEADER: usize = 4;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// Message type that the running kernel has assigned to a generic netlink family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyId(u16);

impl FamilyId {
    /// Plausible id for tests.
    pub const EXAMPLE: Self = Self(0x22);

    /// Builds a single request with a command of version 1.
    pub fn request(self, command: u8, fill: impl FnOnce(&mut Body<'_>)) -> Batch<Generic> {
        Batch::of(self.0, Flags::Plain, with_header(command, fill))
    }

    /// Builds a dump request.
    pub fn dump(self, command: u8, fill: impl FnOnce(&mut Body<'_>)) -> Batch<Generic> {
        Batch::of(self.0, Flags::Dump, with_header(command, fill))
    }

    /// Appends a request to a batch.
    pub fn push(self, batch: &mut Batch<Generic>, command: u8, fill: impl FnOnce(&mut Body<'_>)) {
        batch.push(self.0, Flags::Plain, with_header(command, fill));
    }

    /// Looks up a family by name (`CTRL_CMD_GETFAMILY`).
    ///
    /// # Errors
    /// Fails with ENOENT if the kernel has no such family.
    pub fn resolve(socket: &mut impl Transport<Generic>, name: &str) -> Result<Self, Error> {
        let request = FamilyId(GENL_ID_CTRL).request(CTRL_CMD_GETFAMILY, |body| {
            body.str_z(CTRL_ATTR_FAMILY_NAME, name);
        });
        get(socket, &request, |payload| {
            let id = Attrs::after(HEADER, payload)?.find(CTRL_ATTR_FAMILY_ID)?;
            read_u16(id.ok_or(Error::Malformed("a family has no id"))?).map(FamilyId)
        })
    }
}

fn with_header(command: u8, fill: impl FnOnce(&mut Body<'_>)) -> impl FnOnce(&mut Body<'_>) {
    move |body| {
        body.raw(&[command, 1, 0, 0]);
        fill(body);
    }
}
