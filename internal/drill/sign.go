package drill

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
)

// signedFormat names the format of a signed report. The signed bytes begin with it, so that
// no other use of the key gives a valid signature.
const signedFormat = "migrator-drill/1"

// Signed is a report that one state exports to another.
type Signed struct {
	Format    string `json:"format"`
	Key       string `json:"public_key"` // Ed25519, base64
	Signature string `json:"signature"`  // of the format, a line's end and the report's bytes; base64
	Report    []byte `json:"report"`     // a Report as JSON; base64
}

func message(report []byte) []byte { return append([]byte(signedFormat+"\n"), report...) }

// Sign makes the file that Open reads.
func Sign(r Report, key ed25519.PrivateKey) ([]byte, error) {
	report, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	public, _ := key.Public().(ed25519.PublicKey)
	signed, err := json.MarshalIndent(Signed{
		Format: signedFormat, Key: base64.StdEncoding.EncodeToString(public),
		Signature: base64.StdEncoding.EncodeToString(ed25519.Sign(key, message(report))), Report: report,
	}, "", "  ")
	return append(signed, '\n'), err
}

// Open returns the report of a signed file, with the SHA-256 of the signed bytes. It fails
// unless the trusted key has signed it.
func Open(file []byte, trusted ed25519.PublicKey) (r Report, digest string, err error) {
	var s Signed
	d := json.NewDecoder(bytes.NewReader(file))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
			return r, "", fmt.Errorf("not a signed drill: it has a %s in the wrong place", wrong.Value)
		}
		return r, "", fmt.Errorf("not a signed drill: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return r, "", errors.New("not a signed drill: something follows it")
	}
	if s.Format != signedFormat {
		return r, "", fmt.Errorf("the format is %q: want %s", s.Format, signedFormat)
	}
	signature, err := base64.StdEncoding.DecodeString(s.Signature)
	if err != nil || len(signature) != ed25519.SignatureSize {
		return r, "", errors.New("the signature is not an Ed25519 signature")
	}
	if !ed25519.Verify(trusted, message(s.Report), signature) {
		return r, "", fmt.Errorf("the signature is not by the trusted key (%s), or the report was changed; the file names the key %s", EncodeKey(trusted), s.Key)
	}
	sum := sha256.Sum256(message(s.Report))
	report := json.NewDecoder(bytes.NewReader(s.Report))
	report.DisallowUnknownFields() // another release's, which may mean by them that the drill failed
	if err := report.Decode(&r); err != nil {
		return r, "", fmt.Errorf("the signed report can't be read by this release: %w", err)
	}
	return r, hex.EncodeToString(sum[:]), nil
}

// EncodeKey returns the public key as it stands in a migration file.
func EncodeKey(key ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(key) }

// ParsePublicKey reads a public key: PEM, as openssl pkey -pubout writes it, or base64
// of its 32 bytes.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	text = strings.TrimSpace(text)
	if block, _ := pem.Decode([]byte(text)); block != nil {
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the public key can't be read: %w", err)
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("the public key is of %T: want Ed25519", parsed)
		}
		return key, nil
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, errors.New("not a public key: want PEM, or base64 of the 32 bytes of an Ed25519 key")
	}
	return raw, nil
}

// ParsePrivateKey reads a private key in PEM, as openssl genpkey -algorithm ed25519
// writes it. Its errors don't repeat the text.
func ParsePrivateKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not a private key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key can't be read: want PKCS#8, without a passphrase")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the private key is of %T: want Ed25519", parsed)
	}
	return key, nil
}
