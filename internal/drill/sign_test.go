package drill

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
)

func TestSignedReport(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := Sign(Report{Migration: "products", Passed: true}, private)
	if err != nil {
		t.Fatal(err)
	}
	r, digest, err := Open(file, public)
	if err != nil || r.Migration != "products" || len(digest) != 64 {
		t.Fatalf("%+v, %q, %v", r, digest, err)
	}
	var s Signed
	if err := json.Unmarshal(file, &s); err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*Signed)) []byte {
		c := s
		change(&c)
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, bad := range map[string][]byte{
		"another report":    changed(func(s *Signed) { s.Report = bytes.Replace(s.Report, []byte("products"), []byte("sessions"), 1) }),
		"another form":      changed(func(s *Signed) { s.Format = "migrator-drill/2" }),
		"no signature":      changed(func(s *Signed) { s.Signature = "" }),
		"the key it names":  changed(func(s *Signed) { s.Key = EncodeKey(other) }), // is not what is trusted, and changes nothing
		"nothing":           nil,
		"a field too many":  []byte(`{"format":"migrator-drill/1","more":1}`),
		"another signature": changed(func(s *Signed) { s.Signature = strings.Repeat("A", 86) + "==" }),
	} {
		_, _, err := Open(bad, public)
		if (err == nil) != (name == "the key it names") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Open(file, other); err == nil {
		t.Error("another key's signature is accepted")
	}
	if key, err := ParsePublicKey(EncodeKey(public) + "\n"); err != nil || !key.Equal(public) {
		t.Errorf("%v, %v", key, err)
	}
	for _, bad := range []string{"", "AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"} {
		if _, err := ParsePublicKey(bad); err == nil {
			t.Errorf("%q is accepted as a public key", bad)
		}
		if _, err := ParsePrivateKey([]byte(bad)); err == nil {
			t.Errorf("%q is accepted as a private key", bad)
		}
	}
}
