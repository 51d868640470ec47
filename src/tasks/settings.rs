//! What the rules of this server are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    domain::{KindDefaults, LaneLimits, Name, Rate},
    store::Lane,
};

/// The rules of this server.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What a kind gives its tasks where it says nothing else.
    pub defaults: KindDefaults,
    /// What is configured of each kind.
    pub kinds: BTreeMap<Name, KindSettings>,
    /// What limits each queue that has limits.
    pub queues: BTreeMap<Name, LaneLimits>,
    /// Accept kinds that nobody has ever served.
    pub accept_unknown: bool,
    /// How long ended tasks are kept that name nothing else.
    pub retention: Duration,
}

/// The rules of one kind.
#[derive(Clone, Debug, Default)]
pub struct KindSettings {
    /// What it gives its tasks.
    pub defaults: KindDefaults,
    /// What limits it.
    pub limits: LaneLimits,
    /// What of this server itself serves it; none where workers do.
    pub source: Option<Source>,
}

/// What of a server serves a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A part of it: `demo`, `external`, a handler of the program that it is part of.
    BuiltIn,
    /// A program named in the configuration.
    Program,
}

impl Settings {
    pub(super) fn kind(&self, kind: &Name) -> &KindDefaults {
        self.kinds.get(kind).map_or(&self.defaults, |kind| &kind.defaults)
    }

    /// The limits that hold for a lane: those of its kind, and those of its queue.
    pub(super) fn limits(&self, lane: &Lane) -> [LaneLimits; 2] {
        let kind = self.kinds.get(&lane.kind).map(|kind| kind.limits);
        let queue = self.queues.get(&lane.queue).copied();
        [kind.unwrap_or_default(), queue.unwrap_or_default()]
    }

    /// Whether the number of live leases is limited in it.
    pub(super) fn is_limited(&self, lane: &Lane) -> bool {
        self.limits(lane).iter().any(|limits| limits.concurrency.is_some())
    }

    /// Whether nothing limits it.
    pub(super) fn is_free(&self, lane: &Lane) -> bool {
        self.limits(lane) == [LaneLimits::default(); 2]
    }

    /// The rates that limit a lane, with the names that they are kept by.
    pub(super) fn rates(&self, lane: &Lane) -> impl Iterator<Item = (String, Rate)> {
        let [kind, queue] = self.limits(lane).map(|limits| limits.rate);
        let kind = kind.map(|rate| (kind_name(lane), rate));
        kind.into_iter().chain(queue.map(|rate| (queue_name(lane), rate)))
    }

    /// The names of all that limits these lanes.
    pub(super) fn limit_names(&self, lanes: &[Lane]) -> BTreeSet<String> {
        let limited = |lane| {
            let limits = self.limits(lane).into_iter().zip([kind_name(lane), queue_name(lane)]);
            limits.filter(|(limits, _)| *limits != LaneLimits::default()).map(|(_, name)| name)
        };
        lanes.iter().flat_map(limited).collect()
    }

    /// The names of all rates that limit these lanes.
    pub(super) fn rate_names(&self, lanes: &[Lane]) -> BTreeSet<String> {
        lanes.iter().flat_map(|lane| self.rates(lane).map(|(name, _)| name)).collect()
    }
}

/// By which the limits of its kind are kept.
fn kind_name(lane: &Lane) -> String {
    format!("kinds/{}", lane.kind)
}

/// By which the limits of its queue are kept.
fn queue_name(lane: &Lane) -> String {
    format!("queues/{}", lane.queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limits_a_lane_as_well() {
        let name = |text| Name::new(text).expect("a name");
        let lane = |kind, queue| Lane { kind: name(kind), queue: name(queue) };
        let rate = Rate::per_second(1.0);
        let kind = KindSettings {
            limits: LaneLimits { rate, ..LaneLimits::default() },
            ..KindSettings::default()
        };
        let narrow = LaneLimits { concurrency: Some(1), ..LaneLimits::default() };
        let settings = Settings {
            kinds: [(name("slow"), kind)].into(),
            queues: [(name("narrow"), narrow)].into(),
            ..Settings::default()
        };
        assert!(settings.is_free(&lane("work", "default")));
        assert!(!settings.is_free(&lane("slow", "default")));
        assert!(!settings.is_free(&lane("work", "narrow")));
    }
}
