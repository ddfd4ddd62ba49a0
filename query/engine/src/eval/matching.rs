//! Operators between two vectors. Which series find each other is settled once for all steps;
//! whether they do is a question per step, since series come and go.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use model::Labels;
use query::Error;
use query::promql::{BinaryOp, Cardinality, Matching};

use super::binary::{Arithmetic, arithmetic, changes_meaning};
use super::fill::{Fill, stand_in};
use super::keys::{group_labels, key_of};
use super::operators::{Operand, Operator};
use crate::budget::{Budget, Reserved};
use crate::column::{Bitmap, Column};
use crate::frame::{Frame, Series, Twins, without_metadata};
use crate::plan::Grouping;

/// An operator between two vectors.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) operator: Operator<'a>,
    pub(crate) matching: &'a Matching,
    pub(crate) late_names: bool,
    pub(crate) steps: usize,
    pub(crate) budget: &'a Arc<Budget>,
}

/// Series by match group; places in either frame.
struct MatchGroups {
    /// Group of each series of the first frame, if the second has series of it.
    first: Vec<usize>,
    second: Vec<usize>,
    count: usize,
}

impl MatchGroups {
    fn new(first: &Frame, second: &Frame, grouping: &Grouping) -> Self {
        let mut ids: HashMap<Vec<u8>, usize> = HashMap::with_capacity(second.series.len());
        let mut key = Vec::new();
        let mut of = |series: &Series| {
            key_of(&series.labels, grouping, &mut key);
            let next = ids.len();
            *ids.entry_ref(key.as_slice()).or_insert(next)
        };
        let second = second.series.iter().map(&mut of).collect();
        let first = first.series.iter().map(&mut of).collect();
        Self { first, second, count: ids.len() }
    }
}

impl Pair<'_> {
    pub(crate) fn evaluate(&self, lhs: Frame, rhs: Frame) -> Result<Frame, Error> {
        let grouping = Grouping::new(&self.matching.labels, !self.matching.on);
        let mut frame = match self.operator.op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => self.sets(lhs, rhs, &grouping)?,
            _ => self.joined(lhs, rhs, &grouping)?,
        };
        frame.series.retain(|s| s.column.any());
        frame.unify(Twins::Merged)?;
        Ok(frame)
    }

    fn sets(&self, mut lhs: Frame, mut rhs: Frame, grouping: &Grouping) -> Result<Frame, Error> {
        let groups = MatchGroups::new(&lhs, &rhs, grouping);
        let _reserved =
            self.budget.reserve(groups.count.saturating_mul(Bitmap::bytes(self.steps)))?;
        let occupied = |frame: &Frame, ids: &[usize]| {
            let mut steps = vec![Bitmap::none(self.steps); groups.count];
            for (series, id) in frame.series.iter().zip(ids) {
                self.budget.check()?;
                steps[*id].union(&series.column.occupied());
            }
            Ok::<_, Error>(steps)
        };
        if self.operator.op == BinaryOp::Or {
            let left = occupied(&lhs, &groups.first)?;
            for (series, id) in rhs.series.iter_mut().zip(&groups.second) {
                self.budget.check()?;
                series.column.keep(&complement(&left[*id]));
            }
            lhs.series.append(&mut rhs.series);
            lhs.label_bytes += rhs.label_bytes;
            lhs.reserved.absorb(rhs.reserved);
            lhs.ordered = false;
            return Ok(lhs);
        }
        let right = occupied(&rhs, &groups.second)?;
        for (series, id) in lhs.series.iter_mut().zip(&groups.first) {
            self.budget.check()?;
            match self.operator.op {
                BinaryOp::And => series.column.keep(&right[*id]),
                _ => series.column.keep(&complement(&right[*id])),
            }
        }
        Ok(lhs)
    }

    fn joined(&self, lhs: Frame, rhs: Frame, grouping: &Grouping) -> Result<Frame, Error> {
        // The "one" side is the second from here on.
        let swapped = self.matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
        let groups = MatchGroups::new(&many, &one, grouping);
        let fill = Fill::of(self.matching);
        let mut live = many.occupied(self.steps);
        match fill.any() {
            true => live.union(&one.occupied(self.steps)),
            false => live.intersect(&one.occupied(self.steps)),
        }
        let _steps = match fill.first {
            Some(_) => {
                self.budget.reserve(groups.count.saturating_mul(Bitmap::bytes(self.steps)))?
            }
            None => Reserved::default(),
        };
        let ones = self.check_one_side(&one, &groups, &live, grouping, swapped)?;
        let mut join = Join {
            pair: self,
            swapped,
            done: HashMap::new(),
            matched: match fill.first {
                Some(_) => vec![Bitmap::none(self.steps); groups.count],
                None => Vec::new(),
            },
            done_reserved: Reserved::default(),
            out: Vec::new(),
            out_reserved: Reserved::default(),
        };
        for (series, id) in many.series.iter().zip(&groups.first) {
            for place in &ones[*id] {
                self.budget.check()?;
                join.add(series, &one.series[*place], *id)?;
            }
            if let Some(value) = fill.second {
                let mut alone = series.column.occupied();
                let others = ones[*id].iter().map(|place| one.series[*place].column.occupied());
                others.for_each(|other| alone.subtract(&other));
                join.add_alone(value, series, alone, *id, grouping)?;
            }
        }
        if let Some(value) = fill.first {
            join.fill_first(value, &one, &groups, grouping)?;
        }
        Ok(Frame {
            series: join.out,
            ordered: many.ordered,
            label_bytes: many.label_bytes,
            reserved: join.out_reserved,
        })
    }

    /// The series of the "one" side by group, those left out that meet nothing at any step. Two
    /// with a point at the same step are an error, unless the other side is empty at that step.
    fn check_one_side(
        &self,
        one: &Frame,
        groups: &MatchGroups,
        live: &Bitmap,
        grouping: &Grouping,
        swapped: bool,
    ) -> Result<Vec<Vec<usize>>, Error> {
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.count];
        for (place, id) in groups.second.iter().enumerate() {
            members[*id].push(place);
        }
        let mut taken = Bitmap::none(self.steps);
        for places in &mut members {
            let mut kept: Vec<usize> = Vec::with_capacity(places.len());
            for place in places.iter().copied() {
                self.budget.check()?;
                let occupied = self.met(&one.series[place], live);
                if !occupied.any() {
                    continue;
                }
                // One set for all before it: looking at each is for the message only.
                if taken.overlaps(&occupied) {
                    let meets =
                        |other: &&usize| self.met(&one.series[**other], live).overlaps(&occupied);
                    let other = kept.iter().find(meets).copied().unwrap_or(place);
                    let (new, old) = (&one.series[place].labels, &one.series[other].labels);
                    return Err(many_to_many(new, old, grouping, swapped));
                }
                taken.union(&occupied);
                kept.push(place);
            }
            for place in &kept {
                taken.subtract(&self.met(&one.series[*place], live));
            }
            *places = kept;
        }
        Ok(members)
    }

    /// Steps at which a series has a point and the other side has any.
    fn met(&self, series: &Series, live: &Bitmap) -> Bitmap {
        let mut occupied = series.column.occupied();
        occupied.intersect(live);
        occupied
    }

    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let mut builder = match changes_meaning(self.operator.op, false) {
            true => without_metadata(many).to_builder(),
            false => many.to_builder(),
        };
        if self.matching.cardinality == Cardinality::OneToOne {
            let listed = |name: &str| self.matching.labels.iter().any(|l| l == name);
            builder.retain(|name| listed(name) == self.matching.on);
        }
        for name in &self.matching.include {
            builder.set(name, one.get(name).unwrap_or(""));
        }
        if self.operator.return_bool && !self.late_names {
            return without_metadata(&builder.build());
        }
        builder.build()
    }
}

fn many_to_many(new: &Labels, old: &Labels, grouping: &Grouping, swapped: bool) -> Error {
    let side = if swapped { "left" } else { "right" };
    let group = group_labels(new, grouping);
    Error::Execution(format!(
        "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{new}, {old}];many-to-many matching not allowed: matching labels must be unique on one side"
    ))
}

fn complement(steps: &Bitmap) -> Bitmap {
    let mut rest = Bitmap::all(steps.len());
    rest.subtract(steps);
    rest
}

/// Results so far, and at which steps each match group has had one.
struct Join<'a> {
    pair: &'a Pair<'a>,
    swapped: bool,
    /// By match group, and by result labels where several of a group are allowed.
    done: HashMap<(usize, Option<Labels>), Bitmap>,
    /// By match group, if series of the first side may be filled in: steps with a result.
    matched: Vec<Bitmap>,
    done_reserved: Reserved,
    out: Vec<Series>,
    out_reserved: Reserved,
}

impl Join<'_> {
    fn add(&mut self, many: &Series, one: &Series, group: usize) -> Result<(), Error> {
        let mut matched = many.column.occupied();
        matched.intersect(&one.column.occupied());
        if !matched.any() {
            return Ok(());
        }
        let labels = self.pair.result_labels(&many.labels, &one.labels);
        self.check_single(group, &labels, &matched)?;
        if let Some(steps) = self.matched.get_mut(group) {
            steps.union(&matched);
        }
        let (a, b) = if self.swapped { (one, many) } else { (many, one) };
        self.out_reserved.absorb(self.pair.budget.reserve_columns(1, self.pair.steps)?);
        let column = self.values(&a.column, &b.column, matched)?;
        self.out.push(Series { labels, drop_name: self.pair.operator.return_bool, column });
        Ok(())
    }

    /// A series of the first side with a number instead of one of the second.
    fn add_alone(
        &mut self,
        value: f64,
        series: &Series,
        steps: Bitmap,
        group: usize,
        grouping: &Grouping,
    ) -> Result<(), Error> {
        if !steps.any() {
            return Ok(());
        }
        let (other, _reserved) =
            stand_in(value, steps, &series.labels, grouping, self.pair.budget)?;
        self.add(series, &other, group)
    }

    /// The series of the second side that met none of the first.
    fn fill_first(
        &mut self,
        value: f64,
        one: &Frame,
        groups: &MatchGroups,
        grouping: &Grouping,
    ) -> Result<(), Error> {
        for (series, id) in one.series.iter().zip(&groups.second) {
            self.pair.budget.check()?;
            let mut alone = series.column.occupied();
            alone.subtract(&self.matched[*id]);
            if alone.any() {
                let (other, _reserved) =
                    stand_in(value, alone, &series.labels, grouping, self.pair.budget)?;
                self.add(&other, series, *id)?;
            }
        }
        Ok(())
    }

    fn check_single(
        &mut self,
        group: usize,
        labels: &Labels,
        matched: &Bitmap,
    ) -> Result<(), Error> {
        let one_to_one = self.pair.matching.cardinality == Cardinality::OneToOne;
        let key = (group, (!one_to_one).then(|| labels.clone()));
        let done = match self.done.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let reserved = self.pair.budget.reserve(Bitmap::bytes(self.pair.steps))?;
                self.done_reserved.absorb(reserved);
                free.insert(Bitmap::none(self.pair.steps))
            }
        };
        if done.overlaps(matched) {
            let text = match one_to_one {
                true => {
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                }
                false => "multiple matches for labels: grouping labels must ensure unique matches",
            };
            return Err(Error::Execution(text.to_owned()));
        }
        done.union(matched);
        Ok(())
    }

    fn values(&mut self, a: &Column, b: &Column, mut matched: Bitmap) -> Result<Column, Error> {
        let mut floats = a.present.clone();
        floats.intersect(&b.present);
        let Some(arithmetic) = arithmetic(self.pair.operator.op).filter(|_| floats == matched)
        else {
            let sides = |step: usize| Some((Operand::of(a, step)?, Operand::of(b, step)?));
            let (column, reserved) = self.pair.operator.run(&matched, sides)?;
            self.out_reserved.absorb(reserved);
            return Ok(column);
        };
        let mut values = a.values.clone();
        match arithmetic {
            Arithmetic::Value(of) => {
                values.iter_mut().zip(&b.values).for_each(|(a, b)| *a = of(*a, *b));
            }
            Arithmetic::Filter(holds) if self.pair.operator.return_bool => {
                let truth = |a: f64, b: f64| f64::from(u8::from(holds(a, b)));
                values.iter_mut().zip(&b.values).for_each(|(a, b)| *a = truth(*a, *b));
            }
            Arithmetic::Filter(holds) => {
                for (step, (a, b)) in a.values.iter().zip(&b.values).enumerate() {
                    if !holds(*a, *b) {
                        matched.clear(step);
                    }
                }
            }
        }
        Ok(Column { values, present: matched, histograms: None })
    }
}
