//! Flows from the kernel: a deletion by filter terminates and counts only listed flows; a listed flow
//! matches its filter and crosses the wire unchanged.

use patchbay_codec::{Bulk, Reader, pack_flow, unpack_flow};
use patchbay_grammar::NoNames;
use patchbay_grammar::conntrack::parse;
use patchbay_netcfg::conntrack::{delete, each};
use patchbay_netcfg::fuzz::FuzzKernel;
use patchbay_types::conntrack::Filter;

/// The data is the payload of one reply, read with several filters.
pub(crate) fn run(data: &[u8]) {
    listed(data, None);
    thread_local!(static FILTERS: Vec<Filter> = filters());
    FILTERS.with(|filters| {
        for filter in filters {
            listed(data, Some(filter));
            if let Ok(deleted) = delete(&mut FuzzKernel::Payload(data), filter) {
                assert!(deleted <= 1, "one answer holds one flow");
            }
        }
    });
}

fn listed(data: &[u8], only: Option<&Filter>) {
    let mut check = |flow: &_| {
        assert!(only.is_none_or(|filter| filter.matches(flow)));
        let layout = Bulk::Flows.layout();
        let mut bytes = Vec::new();
        pack_flow(flow, layout, &mut bytes);
        assert_eq!(
            unpack_flow(&mut Reader::new(&bytes), layout).as_ref(),
            Ok(flow)
        );
    };
    // Any other message is an error.
    let _ = each(&mut FuzzKernel::Payload(data), only, &mut check);
}

fn filters() -> Vec<Filter> {
    let lines: [&[&str]; 5] = [
        &["-f", "ipv4"],
        &["-f", "ipv6"],
        &["-d", "10.0.0.1"],
        &["-p", "tcp", "--sport", "1000"],
        &["-m", "0/0xff"],
    ];
    let read = |line: &&[&str]| parse(&NoNames, line).expect("a filter");
    lines.iter().map(read).collect()
}
