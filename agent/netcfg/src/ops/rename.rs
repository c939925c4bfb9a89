//! Renaming a link, also on kernels that require it to be down.
//!
//! Linux before 6.2 answers EBUSY while the link is up, and another program can set it up between two
//! requests of this one. Setting it down costs its routes, IPv6 addresses and static neighbors;
//! setting it up brings back only the connected IPv4 routes. The rest is restored.

use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use patchbay_types::{AdminState, LinkName};

use super::down_losses::DownLosses;
use super::step::set_link;
use super::{Error, Sockets, neighbors};
use crate::cancellation::Cancellation;
use crate::device;
use crate::rtnl::link::SetLink;

/// Renames link `index`; retries until `deadline` while another program keeps setting it up.
pub(super) fn rename(
    sockets: &mut Sockets,
    index: u32,
    name: &LinkName,
    deadline: Instant,
) -> Result<(), Error> {
    match set_name(sockets, index, name) {
        Err(error) if is_busy(&error) => rename_down(sockets, index, name, deadline),
        result => result,
    }
}

/// Sets the link down for the new name.
fn rename_down(
    sockets: &mut Sockets,
    index: u32,
    name: &LinkName,
    deadline: Instant,
) -> Result<(), Error> {
    let tables = Arc::clone(&sockets.tables);
    let _held = tables.share();
    let losses = DownLosses::read(sockets, index)?;
    let neighbors = neighbors::of_link(sockets, index)?;
    let mut last = None;
    // The link must not be left down.
    let never = Cancellation::default();
    let renamed = device::wait_until(deadline, &never, || {
        set_link(sockets, index, SetLink::State(AdminState::Down))?;
        match set_name(sockets, index, name) {
            Err(error) if is_busy(&error) => {
                last = Some(error);
                Ok(None)
            }
            result => result.map(Some),
        }
    });
    let up = set_link(sockets, index, SetLink::State(AdminState::Up));
    let restored = losses.restore(sockets);
    let neighbors = neighbors::set(sockets, index, &neighbors);
    renamed
        .and_then(|renamed| match (renamed, last) {
            (None, Some(busy)) => Err(busy),
            _ => Ok(()),
        })
        .and(up)
        .and(restored)
        .and(neighbors)
}

fn set_name(sockets: &mut Sockets, index: u32, name: &LinkName) -> Result<(), Error> {
    set_link(sockets, index, SetLink::Name(name.clone()))
}

fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Refused { error, .. } if error.is(Errno::EBUSY))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use nix::net::if_::if_nametoindex;
    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::device::Sysfs;
    use crate::ethtool::EthtoolBackend;
    use crate::modules::Loader;
    use crate::ops::Netcfg;

    fn ip(args: &str) -> String {
        let mut ip = Command::new("ip");
        let output = ip.args(args.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ip {args}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Linux 6.2 and later rename a link that is up, so the test calls the part for earlier ones.
    #[test]
    fn rename_down_restores_routes_through_earlier_networks() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for line in [
            "link add eth1 type veth peer name peer",
            "link set peer up",
            "link set eth1 addrgenmode none up",
            "addr add 10.0.0.2/24 dev eth1",
            "addr add 10.77.0.3/24 dev eth1",
            "addr add fd00::2/64 dev eth1 nodad",
            "addr add fd77::3/64 dev eth1 nodad",
            "route add 10.88.0.0/16 via 10.0.0.1 dev eth1 metric 5 mtu 1300",
            "route add 10.88.0.0/16 via 10.77.0.1 dev eth1 metric 6",
            "route add 10.89.0.0/16 nexthop via 10.77.0.1 dev eth1 nexthop via 10.77.0.2 dev eth1",
            "route add 10.90.0.0/16 nexthop via 10.0.0.1 dev eth1 nexthop dev eth1",
            "route add 10.91.0.0/16 dev eth1",
            "route add fd88::/64 via fd00::1 dev eth1",
            "route add fd89::/64 via fd77::1 dev eth1",
            "addr del 10.0.0.2/24 dev eth1",
            "addr del fd00::2/64 dev eth1",
            "neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev eth1",
        ] {
            ip(line);
        }
        let show = || ip("-4 route") + &ip("-6 route") + &ip("neigh show nud permanent");
        let before = show();
        let ethtool = EthtoolBackend::Auto;
        let netcfg = Netcfg::open(Sysfs::at("/sys"), ethtool, None, Loader::default()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let (index, name) = (if_nametoindex("eth1").unwrap(), "wan0".parse().unwrap());
        rename_down(&mut netcfg.sockets().unwrap(), index, &name, deadline).unwrap();
        let mut expected = before.replace("eth1", "wan0");
        for (route, word) in [
            ("10.88.0.0/16 via 10.0.0.1 dev wan0 metric 5 ", "onlink "),
            ("nexthop via 10.0.0.1 dev wan0 weight 1 ", "onlink "),
            ("fd88::/64 via fd00::1 dev wan0 metric 1024 ", "onlink "),
        ] {
            assert!(expected.contains(route), "{before}");
            expected = expected.replace(route, &format!("{route}{word}"));
        }
        assert_eq!(show(), expected);
    }
}
