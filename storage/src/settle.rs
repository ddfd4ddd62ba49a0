//! Edits of which it was not known whether they were stored: once that is found out, readers and
//! the head learn what they would have learnt at once.

use crate::manifest::PartitionState;
use crate::partition::{FlushState, Partition};
use crate::{Error, Storage};

impl Storage {
    /// Finds out about the last edit of a partition, if need be. Fails while the store does.
    pub(crate) async fn settle(
        &self,
        partition: &Partition,
        flush: &mut FlushState,
    ) -> Result<(), Error> {
        let settled = flush.manifest.settle().await;
        if let Some(reason) = flush.manifest.broken() {
            partition.make_read_only(&format!("its manifest: {reason}"));
        }
        let Some((edit, state)) = settled? else { return Ok(()) };
        let next_object = flush.state.next_object.max(state.next_object);
        let before = std::mem::replace(&mut flush.state, PartitionState { next_object, ..state });
        let added = edit.add_blocks.iter().map(|meta| self.stored(meta.clone())).collect();
        partition.replace(&edit.remove_blocks, added);
        let stays = |name: &String| edit.add_blocks.iter().any(|added| added.name == *name);
        partition.note_state(&flush.state);
        let gone: Vec<String> =
            edit.remove_blocks.iter().filter(|name| !stays(name)).cloned().collect();
        self.retire_blocks(partition, &gone);
        partition.drop_tombstones(&edit.remove_tombstones);
        if let Some(freight) = flush.freight.take_if(|f| edit.covered == Some(f.until())) {
            self.arrived(partition, flush, freight, &before.snapshots).await;
        }
        Ok(())
    }
}
