//! `nic`.

use patchbay_types::failure::Failure;
use patchbay_types::{Arp, LinkChange, LinkFields, LinkSpec};

use super::{add_iface, del_iface, list_ifaces, update_iface};
use crate::args::{GlobalArgs, NicAddArgs, NicArgs, NicCommand, NicSetArgs};
use crate::output::{AddedJson, CardJson, UpdatedJson};
use patchbay_host::card::CardRequest;

pub(super) fn run(global: &GlobalArgs, command: &NicCommand) -> Result<String, Failure> {
    match command {
        NicCommand::Add(args) => args.format.format().render(&add(global, args)?),
        NicCommand::Del(args) => del(global, args),
        NicCommand::List(args) => {
            let cards = list_ifaces::cards(global, &args.sandbox)?.into_iter();
            let cards: Vec<CardJson> = cards.map(CardJson::from).collect();
            args.format.format().render(&cards)
        }
        NicCommand::Set(args) => args.format.format().render(&set(global, args)?),
    }
}

fn add(global: &GlobalArgs, args: &NicAddArgs) -> Result<AddedJson, Failure> {
    let parts = LinkFields {
        name: args.nic.name.clone(),
        mac: args.mac,
        mtu: args.mtu,
        addresses: args.ip.clone(),
        queues: args.queues,
        arp: Arp::On,
    };
    let (device, backend) = args.backend.backend(&args.nic.name);
    let request = CardRequest {
        device,
        backend,
        link: LinkSpec::new(parts, "ip")?.with_dad(args.dad.into()),
    };
    add_iface::plug(global, &args.nic.sandbox, &request)
}

fn del(global: &GlobalArgs, args: &NicArgs) -> Result<String, Failure> {
    del_iface::remove(&global.find(&args.sandbox)?, &args.name)?;
    Ok(String::new())
}

fn set(global: &GlobalArgs, args: &NicSetArgs) -> Result<UpdatedJson, Failure> {
    let addresses = (args.no_ip || !args.ip.is_empty()).then(|| args.ip.clone());
    let change = LinkChange::new(args.nic.name.clone(), addresses, args.mtu, "ip")?;
    let change = change.with_dad(args.dad.into());
    update_iface::set(global, &args.nic.sandbox, &change)
}
