//! `nic`: the cards, with flags instead of JSON.

use patchbay_types::failure::Failure;
use patchbay_types::{Arp, LinkChange, LinkFields, LinkSpec};

use super::{add_iface, del_iface, list_ifaces, or_nothing, update_iface};
use crate::args::{Nic, NicAdd, NicName, NicSet, Target};
use crate::output::{Ended, Output, Row};
use patchbay_host::card::CardRequest;
use patchbay_host::sandbox;

pub(super) fn run(target: &Target, words: &Nic) -> Ended {
    match words {
        Nic::Add(words) => or_nothing(add(target, words)).printed(&words.printing),
        Nic::Del(words) => or_nothing(del(target, words)),
        Nic::List(words) => {
            let cards = list_ifaces::cards(target, &words.id);
            let rows = cards.map(|cards| Output::Cards(cards.iter().map(Row::from).collect()));
            or_nothing(rows).printed(&words.printing)
        }
        Nic::Set(words) => or_nothing(set(target, words)).printed(&words.printing),
    }
}

fn add(target: &Target, words: &NicAdd) -> Result<Output, Failure> {
    let parts = LinkFields {
        name: words.nic.name.clone(),
        mac: words.mac,
        mtu: words.mtu,
        addresses: words.ip.clone(),
        queues: words.queues,
        arp: Arp::On,
    };
    let (device, backend) = words.behind.backend(&words.nic.name);
    let request = CardRequest {
        device,
        backend,
        link: LinkSpec::new(parts, "ip")?.with_dad(words.dad.into()),
    };
    add_iface::plug(target, &words.nic.id, &request).map(Output::Added)
}

fn del(target: &Target, words: &NicName) -> Result<Output, Failure> {
    let sandbox = sandbox::find(&target.lookup(), &words.id)?;
    del_iface::remove(&sandbox, &words.name)?;
    Ok(Output::Nothing)
}

fn set(target: &Target, words: &NicSet) -> Result<Output, Failure> {
    let addresses = (words.no_ip || !words.ip.is_empty()).then(|| words.ip.clone());
    let change = LinkChange::new(words.nic.name.clone(), addresses, words.mtu, "ip")?;
    let change = change.with_dad(words.dad.into());
    update_iface::set(target, &words.nic.id, &change).map(Output::Updated)
}
