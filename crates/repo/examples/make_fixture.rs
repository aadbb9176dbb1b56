//! Writes the repositories under `testdata/repository-v1`, once for each released format version: what is there already is refused.
//!
//!     cargo run -p pgproof-repo --example make_fixture testdata/repository-v1

#[path = "../tests/format/content.rs"]
mod content;

use content::{Content, SYSTEM, backup, lineage};
use pgproof_repo::lease::Outcome;
use pgproof_repo::walobject::{PushSource, PushedBy, StoreOptions, store_segment};
use pgproof_repo::{
    Codec, CreateOptions, Encoder, ExtentRef, FileEntry, FileKind, FileMap, ManifestWriter, PAGE_BYTES,
    PackIndex, PackNumber, PackPiece, PackTable, PackWriter, Repository, Suite, blocks_of, key, record,
};
use pgproof_store::{Directory, PutMode};
use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Outcomes<T> = Result<T, Box<dyn Error>>;

/// Where the pages of each file lie, by path.
type Placed = BTreeMap<String, Vec<(ExtentRef, Vec<Range<u32>>)>>;

fn main() -> Outcomes<()> {
    let root = PathBuf::from(std::env::args().nth(1).ok_or("which directory?")?);
    std::fs::create_dir(&root)?;
    let pair = key::generate();
    std::fs::write(root.join("identity.txt"), format!("# for tests only\n{}\n", *pair.identity))?;
    let sealed = CreateOptions { suite: Suite::Aes256Gcm, recipients: vec![pair.recipient] };
    let plain = CreateOptions { suite: Suite::None, recipients: Vec::new() };
    for (name, options) in [("sealed", sealed), ("plain", plain)] {
        let dir = root.join(name);
        let repository = Repository::create(Arc::new(Directory::create(&dir)?), &options)?;
        write_backup(&repository)?;
        write_wal(&repository, &root)?;
    }
    Ok(())
}

fn write_backup(repository: &Repository) -> Outcomes<()> {
    let files = content::files();
    let mut placed = Placed::new();
    let mut packs = PackTable::new();
    let codecs = [Codec::Zstd { level: 3 }, Codec::Lz4, Codec::None];
    let (small, large): (Vec<&Content>, Vec<&Content>) = files
        .iter()
        .filter(|file| !file.bytes.is_empty())
        .partition(|file| file.bytes.len() < 5 * PAGE_BYTES);
    for (number, codec) in (0..).zip(codecs) {
        let mut writer = PackWriter::create(repository, SYSTEM, &backup(), PackNumber(number))?;
        let mut encoder = Encoder::new(codec)?;
        if number == 0 {
            add_shared(repository, &mut writer, &mut encoder, &small, &mut placed)?;
        }
        for file in large.iter().skip(number as usize).step_by(codecs.len()) {
            add_large(repository, &mut writer, &mut encoder, PackIndex(number), file, &mut placed)?;
        }
        packs.insert(PackIndex(number), writer.finish()?);
    }
    let mut writer = ManifestWriter::create(repository, SYSTEM, &backup())?;
    for file in &files {
        writer.add(&entry(file, placed.remove(&file.path).unwrap_or_default())?)?;
    }
    let info = writer.finish(&packs, &content::summary())?;
    let outcome = Outcome::Published {
        manifest_bytes: info.size,
        manifest_identity: info.identity,
        at: content::summary().stopped,
    };
    record::write(repository, &lineage().backup(backup()).outcome(), &outcome, PutMode::IfAbsent)?;
    Ok(())
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut pages = bytes.to_vec();
    pages.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
    pages
}

/// All small files in one extent.
fn add_shared(
    repository: &Repository,
    writer: &mut PackWriter,
    encoder: &mut Encoder,
    files: &[&Content],
    placed: &mut Placed,
) -> Outcomes<()> {
    let pages: Vec<Vec<u8>> = files.iter().map(|file| padded(&file.bytes)).collect();
    let counts: Vec<u16> = pages.iter().map(|pages| (pages.len() / PAGE_BYTES) as u16).collect();
    let blocks: Vec<[Range<u32>; 1]> = counts.iter().map(|&count| [0..count.into()]).collect();
    let pieces: Vec<PackPiece<'_>> = files
        .iter()
        .enumerate()
        .map(|(at, file)| PackPiece { file: &file.path, pages: counts[at], blocks: &blocks[at] })
        .collect();
    let content = pages.concat();
    let place = writer.append(encoder, &content, repository.identity(&content), &pieces)?;
    let mut first = 0;
    for (at, file) in files.iter().enumerate() {
        let whole = ExtentRef::whole(PackIndex(0), place);
        let extent = ExtentRef { piece_first: first, piece_pages: counts[at], ..whole };
        placed.insert(file.path.clone(), vec![(extent, blocks[at].to_vec())]);
        first += counts[at];
    }
    Ok(())
}

/// Extents of sixteen pages; regions of zeroes become holes.
fn add_large(
    repository: &Repository,
    writer: &mut PackWriter,
    encoder: &mut Encoder,
    pack: PackIndex,
    file: &Content,
    placed: &mut Placed,
) -> Outcomes<()> {
    let pages = padded(&file.bytes);
    let mut pieces = Vec::new();
    for (region, content) in (0_u32..).zip(pages.chunks(16 * PAGE_BYTES)) {
        if content.iter().all(|&byte| byte == 0) {
            continue;
        }
        let count = (content.len() / PAGE_BYTES) as u16;
        let blocks = [region * 16..region * 16 + u32::from(count)];
        let piece = PackPiece { file: &file.path, pages: count, blocks: &blocks };
        let place = writer.append(encoder, content, repository.identity(content), &[piece])?;
        pieces.push((ExtentRef::whole(pack, place), blocks.to_vec()));
    }
    placed.insert(file.path.clone(), pieces);
    Ok(())
}

fn entry(file: &Content, pieces: Vec<(ExtentRef, Vec<Range<u32>>)>) -> Outcomes<FileEntry> {
    let length = file.bytes.len() as u64;
    let blocks = blocks_of(length).ok_or("too long")?;
    let pieces = pieces.iter().map(|(extent, blocks)| (*extent, blocks.as_slice()));
    let map =
        if file.kind == FileKind::File { FileMap::from_pieces(pieces, blocks)? } else { FileMap::new() };
    Ok(FileEntry {
        path: file.path.clone(),
        kind: file.kind.clone(),
        mode: file.mode,
        modified: 1_795_379_700,
        length,
        map,
    })
}

fn write_wal(repository: &Repository, root: &Path) -> Outcomes<()> {
    let (name, size) = content::segment();
    let path = root.join("segment");
    std::fs::write(&path, content::wal())?;
    let source = PushSource { path: &path, name: &name, segment_size: size };
    let pushed = PushedBy {
        at: content::summary().started,
        host: "db1".to_owned(),
        pgdata: content::summary().data_directory.path,
        epoch: 0,
    };
    store_segment(repository, lineage(), source, pushed, StoreOptions::default())?;
    std::fs::remove_file(&path)?;
    Ok(())
}
