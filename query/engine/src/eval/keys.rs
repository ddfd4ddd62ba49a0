//! Keys of label sets: what `by`, `without`, `on` and `ignoring` leave of them, as bytes to look
//! up without making a label set first.

use hashbrown::HashMap;
use model::{Labels, METRIC_NAME};

use crate::plan::Grouping;

/// Writes the key of a label set. Equal keys mean the same group.
pub(crate) fn key_of(labels: &Labels, grouping: &Grouping, key: &mut Vec<u8>) {
    key.clear();
    if grouping.without {
        for (name, value) in labels.iter().filter(|(name, _)| !is_removed(name, grouping)) {
            put(key, name);
            put(key, value);
        }
        return;
    }
    for name in &grouping.labels {
        put(key, labels.get(name).unwrap_or(""));
    }
}

fn put(key: &mut Vec<u8>, text: &str) {
    key.extend_from_slice(&(text.len() as u32).to_le_bytes());
    key.extend_from_slice(text.as_bytes());
}

fn is_removed(name: &str, grouping: &Grouping) -> bool {
    name == METRIC_NAME || grouping.labels.binary_search_by(|l| l.as_str().cmp(name)).is_ok()
}

/// The label set of a group.
pub(crate) fn group_labels(labels: &Labels, grouping: &Grouping) -> Labels {
    if grouping.without {
        return Labels::from_pairs(labels.iter().filter(|(name, _)| !is_removed(name, grouping)));
    }
    Labels::from_pairs(labels.iter().filter(|(name, _)| grouping.labels.iter().any(|l| l == name)))
}

/// Dense ids of groups, in order of their first series.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    ids: HashMap<Vec<u8>, u32>,
    /// The label sets, by id.
    pub(crate) labels: Vec<Labels>,
    key: Vec<u8>,
}

impl Groups {
    /// The group of a series.
    pub(crate) fn id(&mut self, labels: &Labels, grouping: &Grouping) -> u32 {
        key_of(labels, grouping, &mut self.key);
        if let Some(id) = self.ids.get(self.key.as_slice()) {
            return *id;
        }
        let id = self.labels.len() as u32;
        self.ids.insert(self.key.clone(), id);
        self.labels.push(group_labels(labels, grouping));
        id
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[&str], without: bool, group: &str) {
        let grouping =
            Grouping::new(&labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>(), without);
        let series = Labels::from_pairs([("__name__", "up"), ("a", "1"), ("b", "2")]);
        let mut groups = Groups::default();
        assert_eq!(groups.id(&series, &grouping), 0);
        assert_eq!(groups.id(&series, &grouping), 0);
        assert_eq!(groups.labels[0].to_string(), group);
    }

    #[test]
    fn groups_have_the_labels_that_are_left() {
        check(&[], false, "{}");
        check(&["a", "c"], false, r#"{a="1"}"#);
        check(&["__name__"], false, r#"{__name__="up"}"#);
        check(&["a"], true, r#"{b="2"}"#);
        check(&[], true, r#"{a="1", b="2"}"#);
    }

    #[test]
    fn keys_do_not_run_into_each_other() {
        let grouping = Grouping::new(&["a".to_owned(), "b".to_owned()], false);
        let mut groups = Groups::default();
        let first = groups.id(&Labels::from_pairs([("a", "xy"), ("b", "z")]), &grouping);
        let second = groups.id(&Labels::from_pairs([("a", "x"), ("b", "yz")]), &grouping);
        assert_ne!(first, second);
    }
}
