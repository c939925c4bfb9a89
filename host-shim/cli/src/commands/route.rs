//! `route`: the routes, with flags instead of JSON.

use patchbay_types::failure::Failure;

use super::{add_route, del_route, list_routes, or_nothing};
use crate::args::{Route, RouteWords, Target};
use crate::input::route::Asked;
use crate::output::{Ended, Output, Routed};

pub(super) fn run(target: &Target, words: &Route) -> Ended {
    match words {
        Route::Add(words) => or_nothing(add(target, words)).printed(&words.printing),
        Route::Del(words) => or_nothing(del(target, words)).printed(&words.printing),
        Route::List(words) => {
            let routes = list_routes::routes(target, &words.id);
            let whole = routes.map(|routes| routes.into_iter().map(Routed::whole).collect());
            or_nothing(whole.map(Output::Routes)).printed(&words.printing)
        }
    }
}

fn add(target: &Target, words: &RouteWords) -> Result<Output, Failure> {
    add_route::add(target, &words.id, vec![Asked::from(words).new_route()?])
}

fn del(target: &Target, words: &RouteWords) -> Result<Output, Failure> {
    del_route::delete(target, &words.id, vec![Asked::from(words).pattern()?])
}

impl From<&RouteWords> for Asked {
    fn from(words: &RouteWords) -> Self {
        let RouteWords {
            id: _,
            dest,
            via,
            dev,
            src,
            scope,
            metric,
            printing: _,
        } = words;
        Self {
            dest: dest.clone(),
            gateway: *via,
            source: *src,
            device: dev.clone(),
            scope: *scope,
            metric: *metric,
        }
    }
}
