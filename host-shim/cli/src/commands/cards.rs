//! `nic` and the interface commands of `kata-network`.

use patchbay_host::card::{CardRequest, HostChange, PlugRequest};
use patchbay_host::mirror::{self, MirrorRequest};
use patchbay_host::ops::{self, CardKey, Replacement, Unplugged};
use patchbay_host::sandbox::Sandbox;
use patchbay_types::failure::{Failure, Kind};
use patchbay_types::{Arp, FieldError, LinkChange, LinkFields, LinkSpec};
use serde_json::Value;

use super::traffic;
use crate::args::{
    DefaultRouteArg, FileArgs, GlobalArgs, NicAddArgs, NicCommand, NicSetArgs, SandboxArg,
};
use crate::input;
use crate::output::traffic::{SHOWN, shown};
use crate::output::{Outcome, cards, json_line, json_line_or_null};

/// `kata-network add-iface`.
pub(super) fn add(global: &GlobalArgs, args: &FileArgs) -> Result<String, Failure> {
    let request = input::interface(&args.file)?.request()?;
    json_line(&plug(global, &global.find(&args.sandbox)?, &request)?)
}

/// `kata-network del-iface`, which uses only the `name` of the document. A card that does not exist
/// is a success; a failure prints the document.
pub(super) fn delete(global: &GlobalArgs, args: &FileArgs) -> Outcome {
    let read = input::interface(&args.file).and_then(|document| {
        let name = document.name()?;
        Ok((document, name, global.find(&args.sandbox)?))
    });
    let (document, name, sandbox) = match read {
        Ok(read) => read,
        Err(failure) => return Outcome::json_null_or(Err(failure)),
    };
    let echo = match json_line(&document.echo()) {
        Ok(echo) => echo,
        Err(failure) => return Outcome::json_null_or(Err(failure)),
    };
    global.signals.print_at_end(&echo);
    match ops::unplug(&sandbox, &CardKey::Name(name)) {
        Ok(Unplugged::Removed | Unplugged::Absent) => Outcome::succeeded("null\n"),
        Err(failure) => Outcome::failed(echo, failure),
    }
}

/// `kata-network list-ifaces`.
pub(super) fn list(global: &GlobalArgs, sandbox: &SandboxArg) -> Result<String, Failure> {
    let listed = ops::list(&global.find(sandbox)?)?;
    json_line_or_null(&listed.iter().map(cards::listed).collect::<Vec<_>>())
}

/// `kata-network update-iface`, which accepts any interface of the guest.
pub(super) fn update(global: &GlobalArgs, args: &FileArgs) -> Result<String, Failure> {
    let change = LinkChange::try_from(input::interface(&args.file)?)?;
    json_line(&set(global, &args.sandbox, &change)?)
}

/// `nic`.
pub(super) fn native(global: &GlobalArgs, command: &NicCommand) -> Result<String, Failure> {
    match command {
        NicCommand::Add(args) => {
            let sandbox = global.find(&args.sandbox)?;
            let added = plug(global, &sandbox, &request(&sandbox, args)?)?;
            args.format.format().render(cards::ADDED, &added)
        }
        NicCommand::Del(args) => {
            let key = args.key()?;
            match ops::unplug(&global.find(&args.sandbox)?, &key)? {
                Unplugged::Removed => Ok(String::new()),
                Unplugged::Absent => Err(key.not_found()),
            }
        }
        NicCommand::Apply(args) => {
            let sandbox = global.find(&args.card.sandbox)?;
            let applied = ops::apply(&sandbox, &args.card.key()?, global.timeout)?;
            args.format
                .format()
                .render(cards::CARDS, &cards::card(&applied))
        }
        NicCommand::List(args) => {
            let sandbox = args.sandbox().map(|arg| global.find(&arg)).transpose()?;
            let sandbox = match sandbox {
                Some(sandbox) if !args.all => sandbox,
                sandbox => return traffic::list(global, sandbox.as_ref(), args),
            };
            let listed = ops::list(&sandbox)?;
            let cards: Vec<_> = listed.iter().map(cards::card).collect();
            args.format.format().render(cards::CARDS, &cards)
        }
        NicCommand::Show(args) => {
            let key = CardKey::Name(args.name.clone());
            let found = ops::show_on_host(&global.find(&args.sandbox)?, &key)?;
            let shown = shown(&found).map_err(|error| Failure::of(Kind::Other, &error))?;
            args.format.format().render_one(SHOWN, &shown)
        }
        NicCommand::Set(args) => {
            let (columns, updated) = match (args.on_host()?, args.of_device()) {
                (Some(change), _) => (cards::ON_HOST, set_on_host(global, args, change)?),
                (None, Some(change)) => (cards::REPLACED, replace(global, args, change)?),
                (None, None) => (cards::UPDATED, set(global, &args.sandbox, &change(args)?)?),
            };
            args.format.format().render(columns, &updated)
        }
    }
}

fn request(sandbox: &Sandbox, args: &NicAddArgs) -> Result<PlugRequest, Failure> {
    if let Some(link) = &args.backend.link {
        let name = args.name().cloned();
        let name = name.map_or_else(|| mirror::default_name(link), Ok);
        return Ok(PlugRequest::Mirror(MirrorRequest {
            queues: args.queues,
            default_route: args.default_route.unwrap_or(DefaultRouteArg::Keep).into(),
            ..MirrorRequest::new(link.clone(), name?)
        }));
    }
    let missing = || Failure::from(FieldError::missing("name"));
    let name = args.name().ok_or_else(missing)?;
    let generated = ops::generate(sandbox, name)?;
    let link = LinkFields {
        name: name.clone(),
        mac: args.mac.unwrap_or(generated.mac),
        mtu: args.mtu,
        addresses: args.ip.clone(),
        queues: args.queues,
        arp: Arp::On,
    };
    let (device, backend) = args.backend.backend(name, &generated);
    Ok(PlugRequest::Card(CardRequest {
        device,
        backend,
        link: LinkSpec::new(link, "ip")?.with_dad(args.dad.into()),
    }))
}

fn change(args: &NicSetArgs) -> Result<LinkChange, Failure> {
    let addresses = (args.no_ip || !args.ip.is_empty()).then(|| args.ip.clone());
    let change = LinkChange::new(args.name.clone(), addresses, args.mtu, "ip")?;
    let change = change.with_flags(args.flags());
    let change = change.with_rename(args.rename.clone());
    Ok(change.with_dad(args.dad.into()))
}

fn set_on_host(
    global: &GlobalArgs,
    args: &NicSetArgs,
    change: HostChange,
) -> Result<Value, Failure> {
    let key = CardKey::Name(args.name.clone());
    let settings = ops::set_on_host(&global.find(&args.sandbox)?, &key, change)?;
    Ok(cards::updated_on_host(&args.name, settings))
}

fn replace(global: &GlobalArgs, args: &NicSetArgs, change: Replacement) -> Result<Value, Failure> {
    let key = CardKey::Name(args.name.clone());
    ops::replace(&global.find(&args.sandbox)?, &key, change, global.timeout)?;
    Ok(cards::replaced(&args.name, change))
}

fn plug(global: &GlobalArgs, sandbox: &Sandbox, request: &PlugRequest) -> Result<Value, Failure> {
    let (path, card) = ops::plug_any(sandbox, request, global.timeout)?;
    Ok(cards::added(&card, &path))
}

fn set(global: &GlobalArgs, sandbox: &SandboxArg, change: &LinkChange) -> Result<Value, Failure> {
    ops::update(&global.find(sandbox)?, change)?;
    Ok(cards::updated(change))
}
