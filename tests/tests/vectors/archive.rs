//! Defects of the archive itself: headers, names, order, end.

use system_tests::{Draft, Sealed, ustar};
use tar::EntryType;

use crate::{Vector, breaks, vector};

fn sealed() -> Sealed {
    Draft::small().sealed()
}

fn member_types() -> Vec<Vector> {
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
    breaks(&["R-ARC-1"], types.into_iter().map(of))
}

/// An extension header with its content before a sound member.
fn extended(kind: EntryType, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = ustar::header(name, content.len() as u64);
    header.set_entry_type(kind);
    header.set_cksum();
    ustar::insert(&Draft::small().archive(), "signatures/", &ustar::member(&header, content))
}

fn extension_headers() -> Vec<Vector> {
    let says = "not the one of a plain member";
    let mut vectors = vec![
        vector!("PAX path", NotCanonicalArchive, says, extended(EntryType::XHeader, "x", b"18 path=../../evil\n")),
        vector!("PAX size", NotCanonicalArchive, says, extended(EntryType::XHeader, "x", b"13 size=1024\n")),
        vector!("PAX malformed", NotCanonicalArchive, says, extended(EntryType::XHeader, "x", b"99999999999 =\n")),
        vector!("PAX global", NotCanonicalArchive, says, extended(EntryType::XGlobalHeader, "g", b"11 uid=1000\n")),
        vector!(
            "GNU long name with a content",
            NotCanonicalArchive,
            says,
            extended(EntryType::GNULongName, "L", b"/etc/shadow\0")
        ),
        vector!("GNU long name as GNU tar names it", BadName, "component", {
            extended(EntryType::GNULongName, "././@LongLink", b"/etc/shadow\0")
        }),
    ];
    // A POSIX reader takes the size of the extended header, others that of the plain one: what the
    // first passes over as content the second reads as members (CVE-2025-62518, RUSTSEC-2026-0068).
    let hidden = ustar::plain("evil", b"x");
    let smuggled = |size: &[u8]| {
        let mut header = ustar::header("signatures/x", 0);
        header.set_entry_type(EntryType::XHeader);
        header.set_size(size.len() as u64);
        header.set_cksum();
        let cover = [ustar::member(&header, size), ustar::plain("signatures/y", b""), hidden.clone()].concat();
        ustar::insert(&Draft::small().archive(), "signatures/", &cover)
    };
    let records: [(&str, &[u8]); 12] = [
        ("PAX size over a header of size 0", b"13 size=1024\n"),
        ("PAX size of 2^63", b"28 size=9223372036854775808\n"),
        ("PAX negative size", b"11 size=-1\n"),
        ("PAX link path", b"20 linkpath=/etc/x\n\n"),
        ("PAX extended attribute", b"30 SCHILY.xattr.user.a=payload\n"),
        ("PAX access control list", b"34 SCHILY.acl.access=user::rwx,g::-\n"),
        ("PAX SELinux label", b"33 RHT.security.selinux=system_u\n"),
        ("PAX sparse 0.0", b"22 GNU.sparse.size=512\n"),
        ("PAX sparse 0.1", b"23 GNU.sparse.map=0,512\n"),
        ("PAX sparse 1.0", b"22 GNU.sparse.major=1\n"),
        ("PAX empty record", b"\n"),
        ("PAX record without its length", b"path=x\n"),
    ];
    vectors.extend(records.map(|(defect, record)| vector!(defect, NotCanonicalArchive, says, smuggled(record))));
    breaks(&["R-ARC-1"], vectors)
}

/// What known readers of archives fell for, each as the two members that did it, before a sound member.
fn known_vulnerabilities() -> Vec<Vector> {
    let link = |name: &str, kind: EntryType, target: &str| {
        let mut header = ustar::header(name, 0);
        header.set_entry_type(kind);
        header.set_link_name(target).unwrap();
        header.set_cksum();
        ustar::member(&header, b"")
    };
    let folder = |name: &str| {
        let mut header = ustar::header(name, 0);
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o777);
        header.set_cksum();
        ustar::member(&header, b"")
    };
    let (symlink, hardlink) = (EntryType::Symlink, EntryType::Link);
    let pairs = [
        (
            "RUSTSEC-2018-0002: hard link, then a file of its name",
            [link("signatures/x", hardlink, "/etc/passwd"), ustar::plain("signatures/x", b"TEST")],
        ),
        (
            "RUSTSEC-2018-0002: symbolic link, then a file of its name",
            [link("signatures/x", symlink, "/etc/passwd"), ustar::plain("signatures/x", b"TEST")],
        ),
        (
            "RUSTSEC-2021-0080: symbolic link that climbs, then a folder below it",
            [link("x", symlink, ".."), folder("x/evil")],
        ),
        (
            "RUSTSEC-2026-0067: symbolic link, then a folder of its name with a mode",
            [link("x", symlink, "/etc"), folder("x")],
        ),
        (
            "CVE-2025-29787, CVE-2026-29064: symbolic link, then a file written through it",
            [link("signatures/x", symlink, "/tmp"), ustar::plain("signatures/x/evil", b"TEST")],
        ),
        (
            "CVE-2026-50163: hard link by the working folder, then a file of its name",
            [link("signatures/x", hardlink, "manifest.json"), ustar::plain("signatures/x", b"TEST")],
        ),
    ];
    let says = "not the one of a plain member";
    let good = Draft::small().archive();
    let mut vectors = Vec::new();
    for (defect, members) in pairs {
        vectors.push(vector!(
            defect,
            NotCanonicalArchive,
            says,
            ustar::insert(&good, "signatures/", &members.concat())
        ));
        // Alone too: what these readers were given.
        let alone = [members.concat(), ustar::END.to_vec()].concat();
        vectors.push(vector!(format!("{defect}, alone"), NotCanonicalArchive, says, alone));
    }
    breaks(&["R-ARC-1"], vectors)
}

/// A change to a sound header.
type Edit = fn(&mut tar::Header);

fn header_fields() -> Vec<Vector> {
    let good = Draft::small().archive();
    let edit = |change: Edit| ustar::edit(&good, "root/", change);
    let says = "not the one of a plain member";
    let of = |(defect, change): (&'static str, Edit)| vector!(defect, NotCanonicalArchive, says, edit(change));
    let fields: [(&str, Edit); 27] = [
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
        ("mtime before 1970", |h| h.as_old_mut().mtime.fill(0xff)),
        ("mtime of the year 10000", |h| h.set_mtime(253_402_300_800)),
        ("base-256 uid", |h| h.as_old_mut().uid = [0x80, 0, 0, 0, 0, 0, 3, 0xe8]),
        ("negative base-256 gid", |h| h.as_old_mut().gid.fill(0xff)),
        ("mode 04755", |h| h.set_mode(0o4755)),
        ("mode with a leading space", |h| h.as_old_mut().mode[0] = b' '),
        ("mode without NUL", |h| h.as_old_mut().mode[7] = b'0'),
        ("size ended by a space", |h| h.as_old_mut().size[11] = b' '),
        ("size with a leading space", |h| h.as_old_mut().size[0] = b' '),
        ("ustar version of spaces", |h| h.as_mut_bytes()[263..265].copy_from_slice(b"  ")),
        ("minor device number", |h| h.set_device_minor(3).unwrap()),
        ("device numbers as GNU tar writes them", |h| h.as_mut_bytes()[329..337].copy_from_slice(b"0000000\0")),
        ("name in the prefix field too", |h| h.as_mut_bytes()[345] = b'a'),
    ];
    let mut vectors: Vec<Vector> = fields.into_iter().map(of).collect();
    let mut checksum = good.clone();
    let at = ustar::place(&good, "root/").header.start + 148;
    checksum[at..at + 8].copy_from_slice(b"000000\0 ");
    let negative = edit(|h| h.as_old_mut().size.fill(0xff));
    let letters = edit(|h| h.as_old_mut().size.fill(b'z'));
    vectors.extend([
        vector!("checksum", NotCanonicalArchive, says, checksum),
        vector!("negative size", TooLarge, "the limit is", negative),
        vector!("size of letters", NotCanonicalArchive, "the size is not octal", letters),
        vector!("checksum of signed bytes", NotCanonicalArchive, says, {
            let mut bytes = ustar::edit(&good, "root/", |h| h.as_old_mut().name[99] = 0x80);
            let at = ustar::place(&good, "root/").header.start;
            let sum: i64 = bytes[at..at + 512]
                .iter()
                .enumerate()
                .map(|(i, byte)| if (148..156).contains(&i) { 32 } else { i64::from(byte.cast_signed()) })
                .sum();
            bytes[at + 148..at + 156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
            bytes
        }),
    ]);
    breaks(&["R-ARC-1"], vectors)
}

fn member_names() -> Vec<Vector> {
    let good = Draft::small().archive();
    let named = |name: &[u8]| ustar::edit(&good, "signatures/", |header| ustar::set_name(header, name));
    let bad: [(&str, &[u8]); 24] = [
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
        ("dot component inside", b"signatures/./a"),
        ("ends in a dot component", b"signatures/."),
        ("two leading slashes", b"//signatures/a"),
        ("drive letter", b"C:evil"),
        ("Windows stream", b"manifest.json:evil"),
        ("delete character", b"a\x7fb"),
        ("tab", b"a\tb"),
        ("composed letter", "caf\u{e9}".as_bytes()),
        ("wildcard", b"signatures/*"),
    ];
    let of = |(defect, name): (&'static str, &[u8])| vector!(defect, BadName, "archive member", named(name));
    let mut vectors: Vec<Vector> = bad.into_iter().map(of).collect();
    vectors.push(vector!("not UTF-8", NotCanonicalArchive, "not UTF-8", named(b"a\xff")));
    vectors.push(vector!("bytes after NUL", NotCanonicalArchive, "plain member", named(b"signatures\0evil")));
    let prefixed = ustar::edit(&good, "signatures/", |h| h.as_mut_bytes()[345..348].copy_from_slice(b"/.."));
    vectors.push(vector!("prefix climbs", BadName, "archive member", prefixed));
    let deep = vec![b"a".as_slice(); 33].join(&b'/');
    vectors.push(vector!("33 components", BadName, "32 components", named(&deep)));
    let mut vectors = breaks(&["R-ARC-2", "R-ARC-6", "R-NAM-1", "R-LIM-12"], vectors);
    vectors.extend(breaks(
        &["R-ARC-5"],
        [vector!("upper-case manifest", UnexpectedMember, "expected manifest.json", {
            ustar::edit(&good, "manifest.json", |header| ustar::set_name(header, b"Manifest.json"))
        })],
    ));
    vectors
}

fn members_and_their_order() -> Vec<Vector> {
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
    let order = vec![
        vector!("signature twice", UnexpectedMember, "members in their order", doubled("signatures/")),
        vector!("root twice", UnexpectedMember, "members in their order", doubled("root/")),
        vector!("second manifest", UnexpectedMember, "manifest.json", doubled("manifest.json")),
        vector!("pack twice", UnexpectedMember, "expected packs/00001", doubled("packs/00000")),
        vector!("signatures swapped", UnexpectedMember, "members in their order", swapped(1, 2)),
        vector!("root before signatures", UnexpectedMember, "members in their order", swapped(4, 5)),
        vector!("packs swapped", UnexpectedMember, "expected packs/00000", swapped(6, 7)),
        vector!("manifest second", UnexpectedMember, "expected manifest.json", swapped(0, 1)),
        vector!("blob of an OCI layout among the members", UnexpectedMember, "blobs/sha256/", {
            let name = format!("blobs/sha256/{}", bundle_format::digest::Sha256::of(b"licence").hex());
            ustar::insert(&good, "root/", &ustar::plain(&name, b"licence"))
        }),
        vector!("blob named by another's digest", UnexpectedMember, "blobs/sha256/", {
            let name = format!("blobs/sha256/{}", bundle_format::digest::Sha256::of(b"other").hex());
            ustar::insert(&good, "packs/", &ustar::plain(&name, b"licence"))
        }),
        vector!("stowaway in the head", UnexpectedMember, "readme.txt", {
            ustar::insert(&good, "root/", &ustar::plain("readme.txt", b"hello"))
        }),
    ];
    let packs = vec![
        vector!("stowaway pack", UnexpectedMember, "the end of the archive", at_end("packs/00002")),
        vector!("stowaway behind the packs", UnexpectedMember, "the end of the archive", at_end("readme.txt")),
        vector!("late signature", UnexpectedMember, "the end of the archive", at_end("signatures/zz.minisig")),
        vector!("missing pack", UnexpectedMember, "expected packs/00001", no_packs("packs/00001")),
        vector!("missing first pack", UnexpectedMember, "expected packs/00000", no_packs("packs/00000")),
        vector!("missing manifest", UnexpectedMember, "expected manifest.json", no_packs("manifest.json")),
        vector!("pack one byte longer", UnexpectedMember, "bytes, found packs/00000", resized.archive()),
    ];
    let named = vec![
        vector!("signature without id", UnexpectedMember, "signatures/KEYID", {
            ustar::insert(&good, "signatures/", &ustar::plain("signatures/ABCDEF0123456789.minisig", b""))
        }),
        vector!("signature of unknown kind", UnexpectedMember, "signatures/KEYID", {
            ustar::insert(&good, "signatures/", &ustar::plain("signatures/0000000000000000.ml-dsa-65", b""))
        }),
        vector!("signature without an ending", UnexpectedMember, "signatures/KEYID", {
            ustar::insert(&good, "signatures/", &ustar::plain("signatures/0000000000000000", b""))
        }),
        vector!("signature with two endings", UnexpectedMember, "signatures/KEYID", {
            ustar::insert(&good, "signatures/", &ustar::plain("signatures/0000000000000000.minisig.bak", b""))
        }),
        vector!("signature of a short id", UnexpectedMember, "signatures/KEYID", {
            ustar::insert(&good, "signatures/", &ustar::plain("signatures/00000000000000.minisig", b""))
        }),
        vector!("signature in a folder", UnexpectedMember, "signatures/KEYID", {
            ustar::insert(&good, "signatures/", &ustar::plain("signatures/a/0000000000000000.minisig", b""))
        }),
    ];
    let misnamed = vec![
        vector!("root misnumbered", UnexpectedMember, "root/00001.json", renamed("root/00001.json", "root/00002.json")),
        vector!("root misnamed", UnexpectedMember, "root/00001.json", renamed("root/00001.json", "root/1.json")),
        vector!(
            "root of six digits",
            UnexpectedMember,
            "root/00001.json",
            renamed("root/00001.json", "root/000001.json")
        ),
        vector!("root version 0", UnexpectedMember, "root/00001.json", renamed("root/00001.json", "root/00000.json")),
    ];
    [
        breaks(&["R-ARC-5"], order),
        breaks(&["R-PACK-1", "R-PACK-6", "R-ARC-5"], packs),
        breaks(&["R-SIG-6"], named),
        breaks(&["R-ARC-5"], misnamed),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A head that claims a member of a size, and ends.
fn claims(name: &str, size: u64) -> Vec<u8> {
    let first = if name == "manifest.json" { Vec::new() } else { ustar::plain("manifest.json", b"{}") };
    [&first[..], ustar::header(name, size).as_bytes()].concat()
}

fn sizes() -> Vec<Vector> {
    let key = "signatures/0000000000000000.minisig";
    let many: Vec<u8> =
        (0..65).flat_map(|number| ustar::plain(&format!("signatures/{number:016x}.ml-dsa-87"), &[0; 4627])).collect();
    let head = vec![
        vector!("manifest of 17 MiB", TooLarge, "manifest.json", claims("manifest.json", 17 << 20)),
        vector!("manifest one byte over 16 MiB", TooLarge, "manifest.json", claims("manifest.json", (16 << 20) + 1)),
        vector!("signature over 64 KiB", TooLarge, "signatures/", claims(key, (64 << 10) + 1)),
        vector!("root over 1 MiB", TooLarge, "root/00001.json", claims("root/00001.json", (1 << 20) + 1)),
        vector!("member over the pack limit", TooLarge, "packs/00000", claims("packs/00000", 9 << 30)),
        vector!("65 signatures", TooLarge, "signatures", {
            [ustar::plain("manifest.json", b"{}"), many, ustar::END.to_vec()].concat()
        }),
    ];
    let largest = (8 << 30) - 1;
    let cut = vec![
        vector!(
            "manifest of 16 MiB claimed, nothing there",
            Truncated,
            "manifest.json",
            claims("manifest.json", 16 << 20)
        ),
        vector!("signature claimed, nothing there", Truncated, "signatures/", claims(key, 64 << 10)),
        vector!("root claimed, nothing there", Truncated, "root/00001.json", claims("root/00001.json", 1 << 20)),
    ];
    let unreadable =
        vec![vector!("manifest of the largest size", TooLarge, "manifest.json", claims("manifest.json", largest))];
    [
        breaks(&["R-LIM-1", "R-LIM-2", "R-LIM-3", "R-LIM-4", "R-LIM-8", "R-ARC-2", "R-PRF-1"], head),
        breaks(&["R-ARC-4"], cut),
        breaks(&["R-LIM-1"], unreadable),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn ends() -> Vec<Vector> {
    let good = Draft::small().archive();
    let body = ustar::without_end(&good);
    let with = |tail: &[u8]| [&body[..], tail].concat();
    let mut padded = good.clone();
    padded[ustar::place(&good, "packs/00001").end() - 1] = 1;
    let mut head_padded = good.clone();
    head_padded[ustar::place(&good, "manifest.json").end() - 1] = 1;
    let ends = vec![
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
        vector!("padded to tar's blocking factor", TrailingBytes, "end mark", with(&vec![0; 10240])),
        vector!("second archive behind", TrailingBytes, "end mark", [&good[..], &good].concat()),
        vector!("pack cut in its middle", Truncated, "packs/00001", {
            good[..ustar::place(&good, "packs/00001").content.start + 3].to_vec()
        }),
        vector!("pack cut in its padding", Truncated, "packs/00001", {
            good[..ustar::place(&good, "packs/00001").content.end + 3].to_vec()
        }),
        vector!("manifest cut", Truncated, "manifest.json", good[..700].to_vec()),
        vector!("header cut", Truncated, "a member header", good[..100].to_vec()),
        vector!("end mark in the head", UnexpectedMember, "expected packs/00000", {
            [&good[..ustar::place(&good, "packs/").header.start], &ustar::END].concat()
        }),
        vector!("only an end mark", UnexpectedMember, "expected manifest.json", ustar::END.to_vec()),
    ];
    let padding = vec![
        vector!("padding of a pack", NotCanonicalArchive, "the padding of packs/00001", padded),
        vector!("padding of the manifest", NotCanonicalArchive, "the padding of manifest.json", head_padded),
    ];
    let wrapped = vec![
        vector!("gzip round the archive", BadName, "archive member", {
            let mut gzip = good.clone();
            gzip[..4].copy_from_slice(&[0x1f, 0x08, 0x08, 0x00]);
            gzip
        }),
        vector!("zstd round the archive", NotCanonicalArchive, "not UTF-8", zstd::encode_all(&good[..], 1).unwrap()),
    ];
    [breaks(&["R-ARC-4", "R-PRF-7"], ends), breaks(&["R-ARC-3"], padding), breaks(&["R-ARC-1"], wrapped)]
        .into_iter()
        .flatten()
        .collect()
}

pub(crate) fn vectors() -> Vec<Vector> {
    [
        member_types(),
        extension_headers(),
        known_vulnerabilities(),
        header_fields(),
        member_names(),
        members_and_their_order(),
        sizes(),
        ends(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
