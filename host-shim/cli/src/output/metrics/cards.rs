//! Metrics of cards, from the side of the guest.

use patchbay_host::card::Cable;
use patchbay_host::limit::Limit;
use patchbay_host::netns::Counters;
use patchbay_host::ops::{CardOnHost, Scrape};

use super::{Family, Labels, of_sandbox};

type Labeled<'a> = (Labels, &'a CardOnHost);

/// Returns the metrics of the cards.
pub(super) fn families(scrapes: &[Scrape]) -> Vec<Family> {
    let cards: Vec<Labeled<'_>> = scrapes
        .iter()
        .flat_map(|scrape| {
            scrape.cards.iter().map(|card| {
                let name = card.card.name.to_string();
                ([of_sandbox(scrape), vec![("card", name)]].concat(), card)
            })
        })
        .collect();
    let info = cards.iter().map(|(labels, card)| {
        let of = |name: &Option<_>| name.as_ref().map(ToString::to_string).unwrap_or_default();
        let more = vec![("device", of(&card.device)), ("bridge", of(&card.bridge))];
        ([labels.clone(), more].concat(), 1.0)
    });
    let mut families = vec![
        Family::gauge("card_info", "Device of the card on the host.", info),
        gauge(
            &cards,
            (
                "card_carrier",
                "Whether QEMU has the TAP device open, 0 or 1.",
            ),
            |card| card.tap.map(|tap| f64::from(u8::from(tap.carrier))),
        ),
        gauge(
            &cards,
            (
                "card_cable_up",
                "State of the cable that nic set has chosen, 0 or 1.",
            ),
            |card| Some(f64::from(u8::from(card.settings.cable == Cable::Up))),
        ),
        gauge(
            &cards,
            (
                "card_receive_limit_bits",
                "Limit of the traffic that the card receives, in bits per second.",
            ),
            |card| bits(card.settings.receive),
        ),
        gauge(
            &cards,
            (
                "card_send_limit_bits",
                "Limit of the traffic that the card sends, in bits per second.",
            ),
            |card| bits(card.settings.send),
        ),
    ];
    families.extend(traffic(&cards));
    families
}

fn gauge(
    cards: &[Labeled<'_>],
    (name, help): (&'static str, &'static str),
    value: fn(&CardOnHost) -> Option<f64>,
) -> Family {
    let samples = cards.iter();
    let samples = samples.filter_map(|(labels, card)| Some((labels.clone(), value(card)?)));
    Family::gauge(name, help, samples)
}

#[expect(clippy::cast_precision_loss, reason = "a rate has fewer than 53 bits")]
fn bits(limit: Limit) -> Option<f64> {
    Some(limit.rate()?.rate().get() as f64)
}

/// Value of a counter.
type Value = fn(&Counters) -> u64;

/// Returns the counters of the TAP devices.
fn traffic(cards: &[Labeled<'_>]) -> Vec<Family> {
    let received: [(&str, &str, Value); 4] = [
        (
            "card_receive_packets",
            "Frames that the card has received.",
            |of| of.packets,
        ),
        (
            "card_receive_bytes",
            "Bytes that the card has received.",
            |of| of.bytes,
        ),
        (
            "card_receive_errors",
            "Frames to the card with an error.",
            |of| of.errors,
        ),
        (
            "card_receive_drops",
            "Frames to the card that were dropped.",
            |of| of.drops,
        ),
    ];
    let sent: [(&str, &str, Value); 4] = [
        (
            "card_send_packets",
            "Frames that the card has sent.",
            |of| of.packets,
        ),
        ("card_send_bytes", "Bytes that the card has sent.", |of| {
            of.bytes
        }),
        (
            "card_send_errors",
            "Frames of the card with an error.",
            |of| of.errors,
        ),
        (
            "card_send_drops",
            "Frames of the card that were dropped.",
            |of| of.drops,
        ),
    ];
    let family = |(name, help, value): (_, _, Value), side: fn(&CardOnHost) -> Option<Counters>| {
        let samples = cards.iter();
        let samples =
            samples.filter_map(|(labels, card)| Some((labels.clone(), value(&side(card)?))));
        Family::counter(name, help, samples)
    };
    let received = received
        .into_iter()
        .map(|of| family(of, |card| Some(card.tap?.received)));
    let sent = sent
        .into_iter()
        .map(|of| family(of, |card| Some(card.tap?.sent)));
    received.chain(sent).collect()
}
