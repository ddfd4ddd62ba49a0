//! The segments that the rows of a merge go to: by day, by tenant where that is large, and by how
//! long entries are kept.

use std::sync::Arc;

use hashbrown::HashSet;
use model::Signal;
use object_store::path::Path;
use tenancy::TenantId;

use super::keeps::Keeps;
use super::planner::{DAY_NS, start_of};
use crate::block::object::{Sink, Sum, Upload};
use crate::entries::page::Row;
use crate::entries::partition::EntryPartition;
use crate::entries::segment::{Closed, ENTRIES, SegmentWriter, Style};
use crate::entries::streams::Stream;
use crate::{Error, Storage};

/// Bytes of lines and fields at which a segment ends.
const RAW_BYTES_MAX: u64 = 1 << 30;

/// The same in rows.
const ROWS_MAX: u64 = 16 << 20;

/// Whose rows share a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// All that are kept for about as long; the same for all if that does not count yet.
    Class(u32),
    /// A large tenant's.
    Own(TenantId),
}

/// How rows are dealt out.
#[derive(Debug)]
pub(super) struct Deal {
    pub(super) signal: Signal,
    pub(super) style: Style,
    /// Days that get segments of their own; later ones share one.
    pub(super) days: Vec<i64>,
    /// Tenants that do; `None`: nothing is split by tenant.
    pub(super) large: Option<HashSet<TenantId>>,
    pub(super) keeps: Keeps,
}

/// A segment being written.
struct Output {
    day: i64,
    whose: Whose,
    writer: SegmentWriter,
    sending: Sending,
    /// Its last row.
    last: Option<(Arc<Stream>, i64)>,
}

/// Where it goes. It gets a name when the first bytes are sent.
#[derive(Default)]
struct Sending {
    name: Option<String>,
    upload: Option<Upload>,
}

/// Gives segments their names.
pub(super) struct Names<'a> {
    pub(super) storage: &'a Storage,
    pub(super) partition: &'a EntryPartition,
    /// All that were given.
    pub(super) given: Vec<String>,
}

/// A segment whose rows are sent.
pub(super) struct Sent {
    pub(super) name: String,
    pub(super) closed: Closed,
    pub(super) entries: Sum,
}

/// All segments of a merge.
pub(super) struct Outputs {
    deal: Deal,
    whose: Whose,
    open: Vec<Output>,
    /// Whole, to be sent.
    closed: Vec<(Closed, Sink, Sending)>,
}

impl Outputs {
    pub(super) fn new(deal: Deal) -> Self {
        Self { deal, whose: Whose::Class(0), open: Vec::new(), closed: Vec::new() }
    }

    /// What is kept of the rows.
    pub(super) fn keeps(&self) -> &Keeps {
        &self.deal.keeps
    }

    /// The next rows are of this stream.
    pub(super) fn turn_to(&mut self, stream: &Stream) -> Result<(), Error> {
        let tenant = stream.tenant;
        self.whose = match &self.deal.large {
            None => Whose::Class(0),
            Some(large) if large.contains(&tenant) => Whose::Own(tenant),
            Some(_) => Whose::Class(self.deal.keeps.class_of(tenant, stream.signal)),
        };
        // Tenants come one after the other.
        let is_past = |o: &mut Output| matches!(o.whose, Whose::Own(of) if of != tenant);
        for past in self.open.extract_if(.., is_past).collect::<Vec<_>>() {
            self.close(past)?;
        }
        Ok(())
    }

    /// Adds a row.
    pub(super) fn add(&mut self, stream: &Arc<Stream>, row: Row<'_>) -> Result<(), Error> {
        let (day, whose) = (self.day_of(row.at_ns), self.whose);
        let at = self.open.iter().position(|o| o.day == day && o.whose == whose);
        let at = match at {
            Some(at) if self.open[at].is_full_before(stream, row.at_ns) => {
                let full = self.open.swap_remove(at);
                self.close(full)?;
                self.begin(day)?
            }
            Some(at) => at,
            None => self.begin(day)?,
        };
        let output = &mut self.open[at];
        output.writer.add(stream, row)?;
        match &mut output.last {
            Some((last, at_ns)) if Arc::ptr_eq(last, stream) => *at_ns = row.at_ns,
            last => *last = Some((Arc::clone(stream), row.at_ns)),
        }
        Ok(())
    }

    fn day_of(&self, at_ns: i64) -> i64 {
        let Some(last) = self.deal.days.last().filter(|_| self.deal.days.len() > 1) else {
            return 0;
        };
        start_of(at_ns, DAY_NS).min(*last)
    }

    fn begin(&mut self, day: i64) -> Result<usize, Error> {
        let writer = SegmentWriter::new(self.deal.signal, self.deal.style)?;
        let (whose, sending, last) = (self.whose, Sending::default(), None);
        self.open.push(Output { day, whose, writer, sending, last });
        Ok(self.open.len() - 1)
    }

    fn close(&mut self, output: Output) -> Result<(), Error> {
        let (closed, sink) = output.writer.close()?;
        self.closed.push((closed, sink, output.sending));
        Ok(())
    }

    /// No more rows come. CPU work.
    pub(super) fn close_all(&mut self) -> Result<(), Error> {
        for output in std::mem::take(&mut self.open) {
            self.close(output)?;
        }
        Ok(())
    }

    /// Whether something should be sent before more rows come.
    pub(super) fn has_ready(&mut self) -> bool {
        !self.closed.is_empty() || self.open.iter_mut().any(|o| o.writer.sink().has_part())
    }

    /// Sends what fills whole parts, and gives what is whole.
    pub(super) async fn send_ready(&mut self, to: &mut Names<'_>) -> Result<Vec<Sent>, Error> {
        for output in self.open.iter_mut().filter_map(|o| o.writer.sink().has_part().then_some(o)) {
            let upload = output.sending.upload(to).await?;
            upload.send_full_parts(output.writer.sink()).await?;
        }
        let mut all = Vec::new();
        while let Some((closed, sink, mut sending)) = self.closed.pop() {
            sending.upload(to).await?;
            let Sending { name: Some(name), upload: Some(upload) } = sending else { continue };
            let entries = upload.finish(sink, closed.tail_start).await?;
            all.push(Sent { name, closed, entries });
        }
        Ok(all)
    }

    /// Gives up what was begun: uploads end, so that the store can let go of their parts.
    pub(super) async fn abandon(self) {
        let open = self.open.into_iter().map(|o| o.sending);
        let all = open.chain(self.closed.into_iter().map(|(_, _, sending)| sending));
        for mut upload in all.filter_map(|sending| sending.upload) {
            upload.abort().await;
        }
    }
}

impl Output {
    /// Whether a row begins another segment. Rows of one stream and instant stay together: their
    /// order is that of their segment.
    fn is_full_before(&self, stream: &Arc<Stream>, at_ns: i64) -> bool {
        let is_full = self.writer.raw_bytes() >= RAW_BYTES_MAX || self.writer.rows() >= ROWS_MAX;
        let goes_on =
            |(last, last_ns): &(Arc<Stream>, i64)| *last_ns == at_ns && last.order(stream).is_eq();
        is_full && !self.last.as_ref().is_some_and(goes_on)
    }
}

impl Sending {
    /// The upload, begun under a name of its own.
    async fn upload(&mut self, names: &mut Names<'_>) -> Result<&mut Upload, Error> {
        if self.upload.is_none() {
            let name = names.next().await;
            let path = Path::from(name.as_str()).join(ENTRIES);
            self.upload = Some(Upload::new(Arc::clone(&names.storage.objects), path));
            self.name = Some(name);
        }
        self.upload.as_mut().ok_or_else(|| Error::Internal("an upload is missing".to_owned()))
    }
}

impl Names<'_> {
    async fn next(&mut self) -> String {
        let mut flush = self.partition.flush.lock().await;
        let number = flush.state.next_object;
        flush.state.next_object += 1;
        let name = format!("segments/{}/{number:012}", self.partition.number);
        self.given.push(name.clone());
        name
    }
}
