//! The audit trail in the history's store: a tree of its own, so that no flood of events pushes it out.
//!
//! Lines are kept in blocks. With an entry of the tree for each line the trail took a quarter of all that writes cost
//! (docs/decisions/0016-audit.md).

use muster_proto::v1::AuditRecord;
use prost::Message;
use prost::bytes::Buf;

use super::AuditQuery;
use super::store::StoreError;

const TREE: &str = "audit-blocks";
/// How many lines are kept; the oldest go first. At some hundred bytes each, a few tens of megabytes at most.
const KEPT: u64 = 100_000;
/// How large a block may get before the next one is begun: sled fails with values of 64 KiB.
const BLOCK_BYTES: usize = 32 << 10;

/// The place of a line: revision and number.
type Place = (u64, u32);

/// The tree: a block's first place and how many lines it has, big-endian -> its lines, each behind its length.
pub(super) struct Audit {
    tree: sled::Tree,
    count: u64,
    /// The place of the newest line.
    last: Option<Place>,
}

impl Audit {
    pub(super) fn open(database: &sled::Db) -> Result<Self, StoreError> {
        let tree = database.open_tree(TREE)?;
        // As for events: reads every key once, which finds damaged pages.
        let mut count = 0;
        for key in tree.iter().keys() {
            count += u64::from(lines_of(&key?)?);
        }
        let newest = tree.last()?.map(|(_, block)| lines(&block)).transpose()?;
        let last = newest.and_then(|lines| lines.last().map(place));
        Ok(Self { tree, count, last })
    }

    /// Keeps lines, which are in order. A line that is not behind the newest one is there already: the log is replayed.
    pub(super) fn append(&mut self, lines: impl IntoIterator<Item = AuditRecord>) -> Result<(), StoreError> {
        let mut block = Block::default();
        for line in lines {
            let at = place(&line);
            if self.last >= Some(at) {
                continue;
            }
            self.last = Some(at);
            if block.bytes.len() + line.encoded_len() > BLOCK_BYTES {
                self.write(std::mem::take(&mut block))?;
            }
            block.push(at, &line)?;
        }
        self.write(block)?;
        while self.count > KEPT {
            let Some((key, _)) = self.tree.pop_min()? else { break };
            self.count = self.count.saturating_sub(u64::from(lines_of(&key)?));
        }
        Ok(())
    }

    fn write(&mut self, block: Block) -> Result<(), StoreError> {
        let Some(first) = block.first else { return Ok(()) };
        self.tree.insert(block_key(first, block.lines), block.bytes)?;
        self.count += u64::from(block.lines);
        Ok(())
    }

    /// The matching lines, oldest first, and how many there are in all.
    pub(super) fn query(&self, query: &AuditQuery) -> Result<(Vec<AuditRecord>, u64), StoreError> {
        // The first line that is asked for may stand in the block before.
        let after = block_key(query.after, u32::MAX);
        let begin = self.tree.range(..=after).keys().next_back().transpose()?;
        let mut blocks = self.tree.range(begin.unwrap_or_default()..).values();
        let mut records = Vec::new();
        while records.len() < query.limit {
            let Some(block) = (if query.latest { blocks.next_back() } else { blocks.next() }) else { break };
            let mut lines = lines(&block?)?;
            if query.latest {
                lines.reverse();
            }
            let room = query.limit - records.len();
            records.extend(lines.into_iter().filter(|line| query.wants(line)).take(room));
        }
        if query.latest {
            records.reverse();
        }
        Ok((records, self.count))
    }
}

/// A block that is being filled.
#[derive(Default)]
struct Block {
    first: Option<Place>,
    lines: u32,
    bytes: Vec<u8>,
}

impl Block {
    fn push(&mut self, at: Place, line: &AuditRecord) -> Result<(), StoreError> {
        self.first.get_or_insert(at);
        self.lines += 1;
        line.encode_length_delimited(&mut self.bytes)?;
        Ok(())
    }
}

fn place(line: &AuditRecord) -> Place {
    (line.revision, line.sequence)
}

fn lines(block: &[u8]) -> Result<Vec<AuditRecord>, StoreError> {
    let mut rest = block;
    let mut lines = Vec::new();
    while rest.has_remaining() {
        lines.push(AuditRecord::decode_length_delimited(&mut rest)?);
    }
    Ok(lines)
}

const KEY_BYTES: usize = 16;

fn block_key(first: Place, lines: u32) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&first.0.to_be_bytes());
    key[8..12].copy_from_slice(&first.1.to_be_bytes());
    key[12..].copy_from_slice(&lines.to_be_bytes());
    key
}

fn lines_of(key: &[u8]) -> Result<u32, StoreError> {
    let key: [u8; KEY_BYTES] = key.try_into().map_err(|_| StoreError::Key)?;
    let lines = key[12..].try_into().map_err(|_| StoreError::Key)?;
    Ok(u32::from_be_bytes(lines))
}
