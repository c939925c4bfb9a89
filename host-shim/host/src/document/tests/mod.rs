mod model;

use std::collections::HashSet;

use patchbay_types::RouteSpec;
use patchbay_types::failure::Kind;
use proptest::prelude::*;

use self::model::{
    MAX, card, neighbor, network, observe, route, rules, run, set_down, setting, sorted,
};
use super::present::{GuestState, Present};
use super::{Plan, Step, Strangers, Wanted, plan, routes};

fn plan_all(wanted: &Wanted, present: &Present) -> Plan {
    plan(wanted, present, Strangers::Remove, MAX).unwrap()
}

proptest! {
    #[test]
    fn plan_reaches_the_wanted_network(before in network(), wanted in network()) {
        let mut present = observe(&before);
        prop_assert_eq!(sorted(present.to_wanted()), sorted(before));
        prop_assert!(plan_all(&present.to_wanted(), &present).is_empty());
        for step in plan_all(&wanted, &present).steps() {
            run(&mut present, step);
        }
        prop_assert_eq!(sorted(present.to_wanted()), sorted(wanted.clone()));
        let again = plan_all(&wanted, &present);
        prop_assert!(again.is_empty(), "{:#?}", again);
    }

    #[test]
    fn plan_after_a_kill_between_two_steps_converges(
        before in network(),
        wanted in network(),
        done in 0usize..12,
    ) {
        let mut present = observe(&before);
        for step in plan_all(&wanted, &present).steps().iter().take(done) {
            run(&mut present, step);
        }
        for step in plan_all(&wanted, &present).steps() {
            run(&mut present, step);
        }
        prop_assert_eq!(sorted(present.to_wanted()), sorted(wanted));
    }

    #[test]
    fn plan_that_keeps_strangers_removes_nothing(before in network(), wanted in network()) {
        let mut present = observe(&before);
        let plan = plan(&wanted, &present, Strangers::Keep, MAX).unwrap();
        let names = |present: &Present| {
            let cards = present.cards.iter().flatten();
            cards.map(|card| card.name.to_string()).collect::<HashSet<_>>()
        };
        let old = names(&present);
        let is_late = |step: &Step| matches!(step, Step::Unplug(unplug) if unplug.difference.is_none());
        prop_assert!(!plan.steps().iter().any(is_late), "{:#?}", plan);
        // A card that is kept can have the device of a new one.
        let conflicts = plan.steps().iter().any(|step| matches!(step, Step::Plug(_)));
        if !conflicts {
            for step in plan.steps() {
                run(&mut present, step);
            }
            prop_assert!(names(&present).is_superset(&old));
        }
    }
}

/// Cards, routes and rules of a small network.
fn small() -> Wanted {
    Wanted {
        interfaces: Some(vec![card(1, 1, 1500, &[1]), card(2, 2, 1500, &[1])]),
        routes: Some(vec![route(1, Some(9), 1)]),
        neighbors: Some(vec![neighbor(5, 1, 2)]),
        ipvs: Some(rules(&[80])),
        sysctls: Some(vec![setting(1)]),
    }
}

/// The guest gets some while its cards are plugged.
#[test]
fn routes_step_keeps_strangers_that_came_after_the_plan() {
    let present = observe(&small());
    let routes = present.routes.clone().unwrap();
    let step = routes::step(Vec::new(), &[], &HashSet::new(), Strangers::Keep);
    let listed: Vec<_> = step.list(&routes).iter().map(RouteSpec::resolve).collect();
    assert!(!listed.is_empty());
    assert!(listed.iter().all(|route| routes.contains(route)));
}

#[test]
fn plan_absent_sections_are_not_managed() {
    let present = observe(&small());
    assert!(plan_all(&Wanted::default(), &present).is_empty());
    let none = Wanted {
        routes: Some(Vec::new()),
        ..Wanted::default()
    };
    let plan = plan_all(&none, &present);
    let [Step::Routes(step)] = plan.steps() else {
        panic!("{plan:#?}");
    };
    assert_eq!(step.difference.removed.len(), 1);
    assert!(step.list(present.routes.as_deref().unwrap()).is_empty());
}

#[test]
fn plan_unplugs_last_unless_something_is_needed() {
    let mut present = observe(&small());
    present.free_slots = 1;
    let swap = |device| Wanted {
        interfaces: Some(vec![card(1, 1, 1500, &[1]), card(3, device, 1500, &[])]),
        ..Wanted::default()
    };
    let order = |wanted| {
        let plan = plan_all(&wanted, &present);
        let letter = |step: &Step| match step {
            Step::Unplug(_) => '-',
            Step::Plug(_) => '+',
            _ => '~',
        };
        plan.steps().iter().map(letter).collect::<String>()
    };
    assert_eq!(order(swap(3)), "+-");
    assert_eq!(order(swap(2)), "-+");
    let full = Wanted {
        interfaces: Some(vec![card(3, 3, 1500, &[]), card(4, 4, 1500, &[])]),
        ..Wanted::default()
    };
    // One slot is free.
    assert_eq!(order(full), "-++-");
}

#[test]
fn plan_of_a_restarted_guest_configures_cards_again() {
    let mut present = observe(&small());
    present.names.clear();
    for card in present.cards.iter_mut().flatten() {
        card.state = GuestState::Lost(None);
    }
    present.routes = Some(Vec::new());
    let wanted = Wanted {
        interfaces: Some(vec![card(1, 1, 1400, &[1]), card(2, 2, 1500, &[1])]),
        ..small()
    };
    let plan = plan_all(&wanted, &present);
    assert!(
        matches!(
            plan.steps(),
            [
                Step::Configure(_),
                Step::Configure(_),
                Step::Update(_),
                Step::Neighbors(_),
                Step::Routes(_)
            ]
        ),
        "{plan:#?}"
    );
}

#[test]
fn plan_names_the_place_of_an_unknown_device() {
    let present = observe(&small());
    let wanted = Wanted {
        interfaces: Some(Vec::new()),
        ..small()
    };
    let failure = plan(&wanted, &present, Strangers::Remove, MAX).unwrap_err();
    assert_eq!(
        (failure.kind(), failure.field()),
        (Kind::NotFound, Some("neighbors[0].device"))
    );
}

#[test]
fn plan_replaces_a_card_with_another_device() {
    let present = observe(&small());
    let wanted = Wanted {
        interfaces: Some(vec![card(1, 3, 1500, &[1]), card(2, 2, 1500, &[1])]),
        ..small()
    };
    let plan = plan_all(&wanted, &present);
    let [
        Step::Unplug(unplug),
        Step::Plug(_),
        Step::Neighbors(_),
        Step::Routes(routes),
    ] = plan.steps()
    else {
        panic!("{plan:#?}");
    };
    assert_eq!(unplug.difference, Some("device"));
    // The route ends with the card and is added again.
    assert_eq!(routes.difference.added.len(), 1);
}

#[test]
fn plan_repairs_a_card_that_the_guest_has_set_down() {
    let mut present = observe(&small());
    let cards = present.cards.as_mut().unwrap();
    let GuestState::Configured(interface) = &mut cards[0].state else {
        panic!();
    };
    interface.up = false;
    let wanted = Wanted {
        interfaces: small().interfaces,
        ..Wanted::default()
    };
    let plan = plan_all(&wanted, &present);
    assert!(matches!(plan.steps(), [Step::Configure(_)]), "{plan:#?}");
}

#[test]
fn plan_lets_a_card_that_is_set_down_lose_the_routes_of_strangers() {
    let up = small();
    let present = observe(&up);
    let mut interfaces = up.interfaces.clone().unwrap();
    let first = interfaces.remove(0);
    interfaces.insert(0, set_down(first));
    let wanted = Wanted {
        interfaces: Some(interfaces),
        routes: Some(Vec::new()),
        ..Wanted::default()
    };
    let plan = plan(&wanted, &present, Strangers::Keep, MAX).unwrap();
    let [Step::Update(_), Step::Routes(routes)] = plan.steps() else {
        panic!("{plan:#?}");
    };
    assert_eq!(routes.list(&[]), []);
}
