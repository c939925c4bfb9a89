//! Generic netlink: its header, and the lookup of a family's number.

use crate::{Attrs, Batch, Body, Connection, Error, Flags, Generic, read_u16};

/// `genlmsghdr`: command, version, two reserved bytes.
pub const HEADER: usize = 4;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// The number that this kernel gave a family when it registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyId(u16);

impl FamilyId {
    /// A number for tests, as a kernel might have assigned it.
    pub const EXAMPLE: Self = Self(0x22);

    /// One request to the family, in version 1 of its interface.
    pub fn request(self, command: u8, fill: impl FnOnce(&mut Body<'_>)) -> Batch<Generic> {
        let mut batch = Batch::default();
        self.push(&mut batch, command, fill);
        batch
    }

    /// The same, behind the requests that a batch holds already.
    pub fn push(
        self,
        batch: &mut Batch<Generic>,
        command: u8,
        fill: impl FnOnce(&mut Body<'_>),
    ) -> usize {
        self.add(batch, Flags::Plain, command, fill)
    }

    /// A request for everything there is.
    pub fn dump(self, command: u8, fill: impl FnOnce(&mut Body<'_>)) -> Batch<Generic> {
        let mut batch = Batch::default();
        self.add(&mut batch, Flags::Dump, command, fill);
        batch
    }

    fn add(
        self,
        batch: &mut Batch<Generic>,
        flags: Flags,
        command: u8,
        fill: impl FnOnce(&mut Body<'_>),
    ) -> usize {
        batch.push(self.0, flags, |body| {
            body.raw(&[command, 1, 0, 0]);
            fill(body);
        })
    }

    /// Asks the kernel for the number of the family of this name.
    ///
    /// # Errors
    /// ENOENT as a refusal where the kernel has no such family.
    pub fn resolve<K: Connection<Generic>>(kernel: &mut K, name: &str) -> Result<Self, Error> {
        let request = FamilyId(GENL_ID_CTRL).request(CTRL_CMD_GETFAMILY, |body| {
            body.str_z(CTRL_ATTR_FAMILY_NAME, name);
        });
        let mut id = None;
        kernel.dump(&request, &mut |payload| {
            let number = Attrs::after(HEADER, payload)?.find(CTRL_ATTR_FAMILY_ID)?;
            id = number.map(read_u16).transpose()?;
            Ok(())
        })?;
        id.map(FamilyId)
            .ok_or(Error::Malformed("a family has no number"))
    }
}
