//! Defects of the archive itself: headers, names, order, end.

use system_tests::{Draft, Sealed, ustar};
use tar::EntryType;

use crate::{Vector, refuse_all, vector};

fn sealed() -> Sealed {
    Draft::small().sealed()
}

#[test]
fn member_types() {
    let good = Draft::small().archive();
    let types: [(&str, u8); 18] = [
        ("hardlink", b'1'),
        ("symlink", b'2'),
        ("character device", b'3'),
        ("block device", b'4'),
        ("folder", b'5'),
        ("fifo", b'6'),
        ("contiguous file", b'7'),
        ("old regular file", 0),
        ("GNU long link", b'K'),
        ("GNU long name", b'L'),
        ("GNU sparse file", b'S'),
        ("GNU multi-volume", b'M'),
        ("GNU volume label", b'V'),
        ("GNU dump folder", b'D'),
        ("PAX header", b'x'),
        ("PAX global header", b'g'),
        ("Solaris header", b'X'),
        ("unknown type", b'Z'),
    ];
    let of = |(defect, kind): (&'static str, u8)| {
        let bytes = ustar::edit(&good, "signatures/", |header| header.as_old_mut().linkflag = [kind]);
        vector!(defect, NotCanonicalArchive, "not the one of a plain member", bytes)
    };
    refuse_all(types.into_iter().map(of).collect());
}

/// An extension header with its content before a sound member.
fn extended(kind: EntryType, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = ustar::header(name, content.len() as u64);
    header.set_entry_type(kind);
    header.set_cksum();
    ustar::insert(&Draft::small().archive(), "signatures/", &ustar::member(&header, content))
}

#[test]
fn extension_headers() {
    let says = "not the one of a plain member";
    refuse_all(vec![
        vector!("PAX path", NotCanonicalArchive, says, extended(EntryType::XHeader, "x", b"18 path=../../evil\n")),
        vector!("PAX size", NotCanonicalArchive, says, extended(EntryType::XHeader, "x", b"13 size=1024\n")),
        vector!("PAX malformed", NotCanonicalArchive, says, extended(EntryType::XHeader, "x", b"99999999999 =\n")),
        vector!("PAX global", NotCanonicalArchive, says, extended(EntryType::XGlobalHeader, "g", b"11 uid=1000\n")),
        vector!("GNU long name", NotCanonicalArchive, says, extended(EntryType::GNULongName, "L", b"/etc/shadow\0")),
        vector!("GNU long name as GNU tar names it", BadName, "component", {
            extended(EntryType::GNULongName, "././@LongLink", b"/etc/shadow\0")
        }),
    ]);
}

/// A change to a sound header.
type Edit = fn(&mut tar::Header);

#[test]
fn header_fields() {
    let good = Draft::small().archive();
    let edit = |change: Edit| ustar::edit(&good, "root/", change);
    let says = "not the one of a plain member";
    let of = |(defect, change): (&'static str, Edit)| vector!(defect, NotCanonicalArchive, says, edit(change));
    let fields: [(&str, Edit); 14] = [
        ("mtime", |h| h.set_mtime(1)),
        ("mode 0644", |h| h.set_mode(0o644)),
        ("setuid", |h| h.set_mode(0o4444)),
        ("uid", |h| h.set_uid(1000)),
        ("gid", |h| h.set_gid(1000)),
        ("user name", |h| h.set_username("root").unwrap()),
        ("group name", |h| h.set_groupname("root").unwrap()),
        ("device number", |h| h.set_device_major(1).unwrap()),
        ("link name", |h| h.set_link_name("a").unwrap()),
        ("base-256 size", |h| {
            let size = h.entry_size().unwrap().to_be_bytes();
            let field = &mut h.as_old_mut().size;
            field.fill(0);
            field[0] = 0x80;
            field[4..].copy_from_slice(&size);
        }),
        ("spaces round the size", |h| h.as_old_mut().size[11] = b' '),
        ("old V7 header", |h| h.as_mut_bytes()[257..265].fill(0)),
        ("GNU magic", |h| h.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0")),
        ("bytes in the reserved field", |h| h.as_mut_bytes()[511] = 1),
    ];
    refuse_all(fields.into_iter().map(of).collect());
    let mut checksum = good.clone();
    let at = ustar::place(&good, "root/").header.start + 148;
    checksum[at..at + 8].copy_from_slice(b"000000\0 ");
    let negative = edit(|h| h.as_old_mut().size.fill(0xff));
    let letters = edit(|h| h.as_old_mut().size.fill(b'z'));
    refuse_all(vec![
        vector!("checksum", NotCanonicalArchive, says, checksum),
        vector!("negative size", TooLarge, "the limit is", negative),
        vector!("size of letters", NotCanonicalArchive, "the size is not octal", letters),
    ]);
}

#[test]
fn member_names() {
    let good = Draft::small().archive();
    let named = |name: &[u8]| ustar::edit(&good, "signatures/", |header| ustar::set_name(header, name));
    let bad: [(&str, &[u8]); 15] = [
        ("absolute", b"/etc/passwd"),
        ("climbs", b"signatures/../../evil"),
        ("only dots", b".."),
        ("dot component", b"./manifest.json"),
        ("double slash", b"signatures//a"),
        ("trailing slash", b"signatures/"),
        ("backslash", b"signatures\\a"),
        ("escape sequence", b"a\x1b[2Jb"),
        ("newline", b"a\nb"),
        ("right-to-left override", "a\u{202e}b".as_bytes()),
        ("zero-width space", "a\u{200b}b".as_bytes()),
        ("decomposed letter", "e\u{301}".as_bytes()),
        ("option", b"--help"),
        ("space", b"a b"),
        ("empty", b""),
    ];
    let of = |(defect, name): (&'static str, &[u8])| vector!(defect, BadName, "archive member", named(name));
    let mut vectors: Vec<Vector> = bad.into_iter().map(of).collect();
    vectors.push(vector!("not UTF-8", NotCanonicalArchive, "not UTF-8", named(b"a\xff")));
    vectors.push(vector!("bytes after NUL", NotCanonicalArchive, "plain member", named(b"signatures\0evil")));
    let prefixed = ustar::edit(&good, "signatures/", |h| h.as_mut_bytes()[345..348].copy_from_slice(b"/.."));
    vectors.push(vector!("prefix climbs", BadName, "archive member", prefixed));
    vectors.push(vector!("upper-case manifest", UnexpectedMember, "expected manifest.json", {
        ustar::edit(&good, "manifest.json", |header| ustar::set_name(header, b"Manifest.json"))
    }));
    refuse_all(vectors);
}

#[test]
fn members_and_their_order() {
    let good = Draft::small().archive();
    let swapped = |a: usize, b: usize| {
        let mut sealed = sealed();
        sealed.members.swap(a, b);
        sealed.archive()
    };
    let doubled = |prefix: &str| {
        let place = ustar::place(&good, prefix);
        ustar::insert(&good, prefix, &good[place.header.start..place.end()])
    };
    let at_end =
        |name: &str| [ustar::without_end(&good), ustar::plain(name, b"stowaway"), ustar::END.to_vec()].concat();
    let no_packs = |drop: &'static str| sealed().without(|name| name == drop).archive();
    let mut resized = sealed();
    resized.find("packs/00000", "").push(0);
    let renamed = |from: &str, to: &str| {
        let mut sealed = sealed();
        sealed.members.iter_mut().filter(|(name, _)| name == from).for_each(|(name, _)| *name = to.into());
        sealed.archive()
    };
    refuse_all(vec![
        vector!("signature twice", UnexpectedMember, "members in their order", doubled("signatures/")),
        vector!("root twice", UnexpectedMember, "members in their order", doubled("root/")),
        vector!("second manifest", UnexpectedMember, "manifest.json", doubled("manifest.json")),
        vector!("pack twice", UnexpectedMember, "expected packs/00001", doubled("packs/00000")),
        vector!("signatures swapped", UnexpectedMember, "members in their order", swapped(1, 2)),
        vector!("root before signatures", UnexpectedMember, "members in their order", swapped(4, 5)),
        vector!("packs swapped", UnexpectedMember, "expected packs/00000", swapped(6, 7)),
        vector!("manifest second", UnexpectedMember, "expected manifest.json", swapped(0, 1)),
        vector!("stowaway in the head", UnexpectedMember, "readme.txt", {
            ustar::insert(&good, "root/", &ustar::plain("readme.txt", b"hello"))
        }),
        vector!("stowaway pack", UnexpectedMember, "the end of the archive", at_end("packs/00002")),
        vector!("stowaway behind the packs", UnexpectedMember, "the end of the archive", at_end("readme.txt")),
        vector!("late signature", UnexpectedMember, "the end of the archive", at_end("signatures/zz.minisig")),
        vector!("missing pack", UnexpectedMember, "expected packs/00001", no_packs("packs/00001")),
        vector!("missing first pack", UnexpectedMember, "expected packs/00000", no_packs("packs/00000")),
        vector!("missing manifest", UnexpectedMember, "expected manifest.json", no_packs("manifest.json")),
        vector!("pack one byte longer", UnexpectedMember, "bytes, found packs/00000", resized.archive()),
        vector!("root misnumbered", UnexpectedMember, "root/00001.json", renamed("root/00001.json", "root/00002.json")),
        vector!("root misnamed", UnexpectedMember, "root/00001.json", renamed("root/00001.json", "root/1.json")),
        vector!("signature without id", UnexpectedMember, "signatures/KEYID", {
            ustar::insert(&good, "signatures/", &ustar::plain("signatures/ABCDEF0123456789.minisig", b""))
        }),
        vector!("signature of unknown kind", UnexpectedMember, "signatures/KEYID", {
            ustar::insert(&good, "signatures/", &ustar::plain("signatures/0000000000000000.ml-dsa-65", b""))
        }),
    ]);
}

/// A head that claims a member of a size, and ends.
fn claims(name: &str, size: u64) -> Vec<u8> {
    let first = if name == "manifest.json" { Vec::new() } else { ustar::plain("manifest.json", b"{}") };
    [&first[..], ustar::header(name, size).as_bytes()].concat()
}

#[test]
fn sizes() {
    let key = "signatures/0000000000000000.minisig";
    let many: Vec<u8> =
        (0..65).flat_map(|number| ustar::plain(&format!("signatures/{number:016x}.ml-dsa-87"), &[0; 4627])).collect();
    refuse_all(vec![
        vector!("manifest of 17 MiB", TooLarge, "manifest.json", claims("manifest.json", 17 << 20)),
        vector!("signature over 64 KiB", TooLarge, "signatures/", claims(key, (64 << 10) + 1)),
        vector!("root over 1 MiB", TooLarge, "root/00001.json", claims("root/00001.json", (1 << 20) + 1)),
        vector!("member over the pack limit", TooLarge, "packs/00000", claims("packs/00000", 9 << 30)),
        vector!("65 signatures", TooLarge, "signatures", {
            [ustar::plain("manifest.json", b"{}"), many, ustar::END.to_vec()].concat()
        }),
    ]);
}

#[test]
fn ends() {
    let good = Draft::small().archive();
    let body = ustar::without_end(&good);
    let with = |tail: &[u8]| [&body[..], tail].concat();
    let mut padded = good.clone();
    padded[ustar::place(&good, "packs/00001").end() - 1] = 1;
    let mut head_padded = good.clone();
    head_padded[ustar::place(&good, "manifest.json").end() - 1] = 1;
    refuse_all(vec![
        vector!("empty file", Truncated, "expected 512 bytes, found 0", Vec::new()),
        vector!("no end mark", Truncated, "a member header", body.clone()),
        vector!("half an end mark", Truncated, "the end mark", with(&[0; 512])),
        vector!("one zero block, then data", NotCanonicalArchive, "not two", {
            with(&[&[0; 512][..], &ustar::plain("a", b"")].concat())
        }),
        vector!("entry after the end mark", TrailingBytes, "end mark", {
            with(&[&ustar::END[..], &ustar::plain("a", b"")].concat())
        }),
        vector!("third zero block", TrailingBytes, "end mark", with(&[0; 1536])),
        vector!("garbage after the end mark", TrailingBytes, "end mark", with(&[&ustar::END[..], b"x"].concat())),
        vector!("padding of a pack", NotCanonicalArchive, "the padding of packs/00001", padded),
        vector!("padding of the manifest", NotCanonicalArchive, "the padding of manifest.json", head_padded),
        vector!("gzip round the archive", BadName, "archive member", {
            let mut gzip = good.clone();
            gzip[..4].copy_from_slice(&[0x1f, 0x08, 0x08, 0x00]);
            gzip
        }),
    ]);
}
