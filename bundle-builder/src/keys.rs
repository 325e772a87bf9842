//! `keygen`, and opening a signer for the commands that sign: passphrase and PIN come from a
//! terminal or a file descriptor, never from the command line or the environment.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use signing_keys::Signer;
use signing_keys::file::{KeyFiles, check_passphrase};
use signing_keys::token::{Address, Ed25519, Kept, MlDsa87, Module, OpenToken, Place, Slot, TokenKey, TokenScheme};
use zeroize::Zeroizing;

use crate::cli::print;
use crate::error::{ErrorKind, Result};
use crate::output::passphrase;

const PASSPHRASE_FILE: &str = "--passphrase-file";

/// How the secrets of a signer reach the program.
#[derive(Debug, Args)]
pub struct SecretArgs {
    /// File whose first line is the passphrase (/dev/fd/N for a descriptor); default: ask.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Open file descriptor whose first line is the token's PIN; default: ask.
    #[arg(long, value_name = "N")]
    pin_fd: Option<u32>,
    /// The same for the second token of a signer whose keys are in two; default: ask.
    #[arg(long, value_name = "N")]
    ml_dsa_pin_fd: Option<u32>,
}

impl SecretArgs {
    pub(crate) fn passphrase(&self, prompt: &str) -> Result<Zeroizing<Vec<u8>>> {
        passphrase(self.passphrase_file.as_deref(), prompt, PASSPHRASE_FILE)
    }

    /// A new passphrase, typed twice where it is typed.
    fn new_passphrase(&self, name: &str) -> Result<Zeroizing<Vec<u8>>> {
        let secret = self.passphrase(&format!("New passphrase for {name}: "))?;
        if self.passphrase_file.is_none() && passphrase(None, "Again: ", PASSPHRASE_FILE)? != secret {
            return Err(ErrorKind::Usage("the two passphrases differ".into()).into());
        }
        Ok(check_passphrase(&secret).map(|()| secret)?)
    }

    /// Opens the token of the Ed25519 key.
    fn open(&self, slot: Slot) -> Result<Rc<OpenToken>> {
        open_token(slot, self.pin_fd, "--pin-fd")
    }

    /// Opens both tokens of a signer; the same one once. A PIN is never tried on the other token.
    fn open_both(&self, first: Slot, second: Slot) -> Result<(Rc<OpenToken>, Rc<OpenToken>)> {
        if first.is_same(&second) {
            let token = self.open(first)?;
            return Ok((Rc::clone(&token), token));
        }
        second.check_pin()?;
        Ok((self.open(first)?, open_token(second, self.ml_dsa_pin_fd, "--ml-dsa-pin-fd")?))
    }
}

/// Opens a token; the prompt says how it stands with attempts.
fn open_token(slot: Slot, pin_fd: Option<u32>, option: &str) -> Result<Rc<OpenToken>> {
    if slot.has_pin_pad() && pin_fd.is_none() {
        return Ok(slot.open(None)?);
    }
    slot.check_pin()?;
    let file = pin_fd.map(|number| PathBuf::from(format!("/dev/fd/{number}")));
    let label = bundle_format::text::escaped(slot.label());
    let prompt = format!("PIN of token {label} ({}): ", slot.attempts().words());
    let pin = passphrase(file.as_deref(), &prompt, option)?;
    Ok(slot.open(Some(&pin))?)
}

/// Which signer signs.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The signer: FOLDER/NAME as given to keygen.
    #[arg(long, value_name = "FOLDER/NAME")]
    key: PathBuf,
    #[command(flatten)]
    secrets: SecretArgs,
}

impl KeyArgs {
    /// Opens the signer.
    pub fn open(&self) -> Result<Signer> {
        open_key(&self.key, &self.secrets)
    }
}

/// Opens the signer `key`, FOLDER/NAME.
pub(crate) fn open_key(key: &Path, secrets: &SecretArgs) -> Result<Signer> {
    let usage = || ErrorKind::Usage("--key takes FOLDER/NAME, the folder and the name given to keygen".into());
    let name = key.file_name().and_then(|name| name.to_str()).ok_or_else(usage)?;
    let folder = key.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = KeyFiles::of(folder, name);
    if files.is_in_token() {
        let (first, second) = files.token_addresses()?;
        let slot = Slot::of(&first)?;
        let Some(second) = second else {
            let ed25519 = secrets.open(slot)?.key(&first)?;
            let secret = secrets.passphrase(&format!("Passphrase of {name}'s ML-DSA-87 key: "))?;
            return Ok(files.open_split(name, ed25519, &secret)?);
        };
        let (token, other) = secrets.open_both(slot, Slot::of(&second)?)?;
        return Ok(files.open_in_tokens(name, token.key(&first)?, other.key(&second)?)?);
    }
    let secret = secrets.passphrase(&format!("Passphrase of {name}: "))?;
    Ok(files.open(name, &secret)?)
}

/// Arguments of `keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// Holder's name (a-z, 0-9, hyphens).
    #[arg(long)]
    name: String,
    /// Folder for the files.
    #[arg(long)]
    out: PathBuf,
    /// A PKCS#11 library: the Ed25519 key is made in its token.
    #[arg(long, value_name = "MODULE", requires = "token")]
    pkcs11: Option<PathBuf>,
    /// The token's label.
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    token: Option<String>,
    /// The token's serial number, where several have the label.
    #[arg(long, value_name = "SERIAL", requires = "pkcs11")]
    token_serial: Option<String>,
    /// Where the ML-DSA-87 key is made: `file` (sealed by a passphrase), `token` (the same token), or
    /// the address of another token, `pkcs11:token=LABEL?module-path=MODULE`. With object= or id= the
    /// address names a key to take. Must be given where the token has ML-DSA; without it: `file`.
    #[arg(long, value_name = "WHERE", requires = "pkcs11", value_parser = parse_where)]
    ml_dsa: Option<MlDsaWhere>,
    /// Takes what the token has under this label instead of making it.
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    adopt: Option<String>,
    #[command(flatten)]
    secrets: SecretArgs,
}

/// Where an ML-DSA-87 key is to be.
#[derive(Debug, Clone)]
enum MlDsaWhere {
    File,
    SameToken,
    Address(Address),
}

fn parse_where(text: &str) -> std::result::Result<MlDsaWhere, String> {
    match text {
        "file" => Ok(MlDsaWhere::File),
        "token" => Ok(MlDsaWhere::SameToken),
        uri if uri.starts_with("pkcs11:") => match Address::parse_token("--ml-dsa", uri) {
            Ok(address) => Ok(MlDsaWhere::Address(address)),
            Err(error) => Err(match error.kind() {
                signing_keys::ErrorKind::Malformed { why, .. } => why.clone(),
                _ => error.to_string(),
            }),
        },
        _ => Err("expected file, token or a pkcs11: address".into()),
    }
}

impl KeygenArgs {
    /// Makes the signer and its files.
    pub fn run(&self) -> Result<()> {
        let files = KeyFiles::of(&self.out, &self.name);
        // Before anything is made: a key in a token is not taken back by a later error.
        files.refuse_existing()?;
        bundle_format::name::check_label("key holder", &self.name)?;
        let (signer, secret) = if let (Some(module), Some(token)) = (&self.pkcs11, &self.token) {
            self.in_token(module, token)?
        } else {
            let secret = self.secrets.new_passphrase(&self.name)?;
            (Signer::generate(&self.name)?, secret)
        };
        // One signature shows that a token really signs with the key whose public half it names.
        signer.sign(b"lockgate keygen self-test", "self-test")?;
        files.write(&signer, &secret)?;
        print(&made_lines(&files, &signer))
    }

    /// A signer whose Ed25519 key at least is in a token, and the passphrase of what is sealed; empty
    /// where nothing is.
    fn in_token(&self, module: &Path, token: &str) -> Result<(Signer, Zeroizing<Vec<u8>>)> {
        let find = || Module::load(module)?.find(token, self.token_serial.as_deref());
        let slot = find()?;
        let adopted = self.adopt.as_ref().map(|label| Address {
            module: module.into(),
            token: token.into(),
            serial: None,
            object: Some(label.clone()),
            id: None,
        });
        let (second, second_adopted) = match &self.ml_dsa {
            Some(MlDsaWhere::SameToken) => (find()?, adopted.clone()),
            Some(MlDsaWhere::Address(address)) => (Slot::of(address)?, address.names_key().then(|| address.clone())),
            // Where the choice is there, a person makes it: neither is what everyone would expect.
            None if slot.signs::<MlDsa87>()? => {
                let label = bundle_format::text::escaped(slot.label());
                let why = format!("token {label} has ML-DSA: say --ml-dsa token or --ml-dsa file");
                return Err(ErrorKind::Usage(why).into());
            }
            None | Some(MlDsaWhere::File) => {
                let secret = self.secrets.new_passphrase(&self.name)?;
                let key = self.place::<Ed25519>(&self.secrets.open(slot)?, adopted.as_ref())?.key()?;
                return Ok((Signer::generate_split(&self.name, key)?, secret));
            }
        };
        let (token, other) = self.secrets.open_both(slot, second)?;
        let ed25519 = self.place::<Ed25519>(&token, adopted.as_ref())?;
        let ml_dsa_87 = self.place::<MlDsa87>(&other, second_adopted.as_ref())?;
        // The younger mechanism first: what may fail should leave nothing behind.
        let ml_dsa_87 = ml_dsa_87.key()?;
        Ok((Signer::in_tokens(&self.name, ed25519.key()?, ml_dsa_87)?, Zeroizing::default()))
    }

    fn place<S: TokenScheme>(&self, token: &Rc<OpenToken>, adopted: Option<&Address>) -> Result<Place<S>> {
        Ok(match adopted {
            Some(address) => Place::Taken(token.key(address)?),
            None => Place::free(token, &self.name)?,
        })
    }
}

/// What was made, and where each key is.
fn made_lines(files: &KeyFiles, signer: &Signer) -> Vec<String> {
    let (ed25519, ml_dsa_87) = (signer.ed25519_in_token(), signer.ml_dsa_87_in_token());
    let mut lines = vec![
        place_line(files, ed25519, &files.ed25519),
        place_line(files, ml_dsa_87, &files.ml_dsa_87),
        format!("public  {}", files.public.display()),
        format!("public  {} (for stock minisign)", files.minisign_public.display()),
    ];
    lines.extend(signer.public().holder().keys.iter().map(|key| format!("key id  {}  {}", key.id(), key.scheme())));
    lines.extend(ed25519.map(kept_line));
    lines.extend(ml_dsa_87.map(kept_line));
    match (ed25519, ml_dsa_87) {
        (Some(_), Some(_)) => lines.push("token signer: both keys are in tokens; nothing was sealed".into()),
        (Some(_), None) => lines.push("split signer: its ML-DSA-87 key is a sealed file, not in hardware".into()),
        (None, _) => {}
    }
    lines
}

fn place_line<S>(files: &KeyFiles, in_token: Option<&TokenKey<S>>, sealed: &Path) -> String {
    match in_token {
        Some(key) => format!("token   {} names {}", files.token.display(), key.address().to_uri()),
        None => format!("sealed  {}", sealed.display()),
    }
}

/// What a token says of where its key has been.
fn kept_line<S>(key: &TokenKey<S>) -> String {
    let scheme = key.public().scheme();
    match key.kept() {
        Kept::AlwaysInside => {
            format!("the token says of its {scheme} key: made inside, never outside, cannot be taken out")
        }
        Kept::MayHaveBeenOutside => {
            format!("WARNING: the token does not say that this {scheme} key never was and never comes outside")
        }
    }
}
