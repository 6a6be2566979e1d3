package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// Envelope is a payload with signatures over it and its type (DSSE v1).
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one signature of an Envelope.
type Signature struct {
	KeyID string `json:"keyid"` // a hint; what counts is which key verifies
	Sig   []byte `json:"sig"`
}

// pae is what a signature covers: type and payload, each with its length, so that neither can be
// taken for part of the other.
func pae(payloadType string, payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// Seal signs a payload.
func (k *PrivateKey) Seal(payloadType string, payload []byte) (Envelope, error) {
	sum := sha256.Sum256(pae(payloadType, payload))
	sig, err := k.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return Envelope{}, fmt.Errorf("signing with key %s: %w", k.ID, err)
	}
	return Envelope{PayloadType: payloadType, Payload: payload, Signatures: []Signature{{KeyID: k.ID, Sig: sig}}}, nil
}

// Check says whether one of the envelope's signatures is the key's.
func (e Envelope) Check(key PublicKey) bool {
	sum := sha256.Sum256(pae(e.PayloadType, e.Payload))
	for _, s := range e.Signatures {
		if ecdsa.VerifyASN1(key.key, sum[:], s.Sig) {
			return true
		}
	}
	return false
}

// ParseEnvelope reads an envelope. Only the form that json.Marshal gives of it is one.
func ParseEnvelope(data []byte) (Envelope, error) {
	var e Envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return e, err
	}
	again, err := json.Marshal(e)
	if err != nil {
		return e, err
	}
	if !bytes.Equal(again, data) {
		return e, errors.New("the envelope is not in its canonical form")
	}
	if len(e.Signatures) == 0 {
		return e, errors.New("the envelope holds no signature")
	}
	return e, nil
}

// BundleType is the media type of a bundle, and the artifact type of the manifest that binds one
// to what it is about.
const BundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// statementType is the payload type of a statement.
const statementType = "application/vnd.in-toto+json"

// bundle is a Sigstore bundle with a public key known to who checks it: no certificate, no
// transparency log.
type bundle struct {
	MediaType string   `json:"mediaType"`
	Material  material `json:"verificationMaterial"`
	Envelope  Envelope `json:"dsseEnvelope"`
}

type material struct {
	PublicKey struct {
		Hint string `json:"hint"`
	} `json:"publicKey"`
	LogEntries []json.RawMessage `json:"tlogEntries,omitempty"`
}

// Statement says something of things that are named by digest (in-toto Statement v1).
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Subject is what a statement is about.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"` // algorithm to hex
}

// inTotoStatement is the type of every statement.
const inTotoStatement = "https://in-toto.io/Statement/v1"

// Bundle signs a statement about one subject, the digest being sha256:…, and gives the bundle.
func (k *PrivateKey) Bundle(name, digest, predicateType string, predicate any) ([]byte, error) {
	body, err := json.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(Statement{
		Type: inTotoStatement, Subject: []Subject{{Name: name, Digest: map[string]string{"sha256": digest[len("sha256:"):]}}},
		PredicateType: predicateType, Predicate: body,
	})
	if err != nil {
		return nil, err
	}
	envelope, err := k.Seal(statementType, payload)
	if err != nil {
		return nil, err
	}
	envelope.Signatures[0].KeyID = "" // cosign compares it with an identity of its own making
	b := bundle{MediaType: BundleType, Envelope: envelope}
	b.Material.PublicKey.Hint = k.ID
	return json.Marshal(b)
}

// Signed is a bundle that was read: what it says, and the envelope that proves who says it.
type Signed struct {
	Statement Statement
	Envelope  Envelope
}

// ParseBundle reads a bundle. Whose it is remains to be checked.
func ParseBundle(data []byte) (Signed, error) {
	var b bundle
	var s Signed
	if err := json.Unmarshal(data, &b); err != nil {
		return s, err
	}
	if b.MediaType != BundleType {
		return s, fmt.Errorf("media type %q is not %s", b.MediaType, BundleType)
	}
	if b.Envelope.PayloadType != statementType {
		return s, fmt.Errorf("payload type %q is not %s", b.Envelope.PayloadType, statementType)
	}
	s.Envelope = b.Envelope
	if err := json.Unmarshal(b.Envelope.Payload, &s.Statement); err != nil {
		return s, err
	}
	if s.Statement.Type != inTotoStatement {
		return s, fmt.Errorf("statement type %q is not %s", s.Statement.Type, inTotoStatement)
	}
	if len(s.Statement.Subject) != 1 {
		return s, fmt.Errorf("it is about %d things, not one", len(s.Statement.Subject))
	}
	return s, nil
}
