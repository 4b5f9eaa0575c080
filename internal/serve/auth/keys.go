package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// signer signs the tokens of the built-in endpoint.
type signer struct {
	id  string
	key ed25519.PrivateKey
}

// loadSigner reads the key at path (PEM, PKCS #8, Ed25519), making it where there is none. Of
// several processes that make it at once, all use the one that came first.
func loadSigner(path string) (signer, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(path); err != nil {
			return signer{}, fmt.Errorf("make the key of tokens: %w", err)
		}
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return signer{}, fmt.Errorf("read the key of tokens: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return signer{}, fmt.Errorf("%s: want an Ed25519 private key as PEM (openssl genpkey -algorithm ed25519)", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return signer{}, fmt.Errorf("%s: %w", path, err)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return signer{}, fmt.Errorf("%s: the key is %T; want Ed25519", path, key)
	}
	sum := sha256.Sum256(ed.Public().(ed25519.PublicKey))
	return signer{id: hex.EncodeToString(sum[:8]), key: ed}, nil
}

// makeKey writes a new key that only its owner can read, whole or not at all.
func makeKey(path string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// publicKeys are an issuer's, by their ID; those without one are under "".
type publicKeys map[string][]crypto.PublicKey

func readKeys(path string) (publicKeys, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	k, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// parseKeys reads PEM blocks (PUBLIC KEY, CERTIFICATE) or a JSON Web Key Set (RFC 7517).
func parseKeys(data []byte) (publicKeys, error) {
	if block, _ := pem.Decode(data); block == nil {
		return parseKeySet(data)
	}
	keys := publicKeys{}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return keys, nil
		}
		var key crypto.PublicKey
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = cert.PublicKey
			}
		default:
			err = fmt.Errorf("want PUBLIC KEY or CERTIFICATE, not %q", block.Type)
		}
		if err == nil {
			err = usable(key)
		}
		if err != nil {
			return nil, err
		}
		keys[""] = append(keys[""], key)
	}
}

// usable refuses keys that are too weak, or of kinds that sign no tokens.
func usable(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 || k.N.BitLen() > 16384 || k.E < 3 {
			return fmt.Errorf("an RSA key of %d bits; want 2048 to 16384", k.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P224() {
			return errors.New("an elliptic curve key of 224 bits; want 256 or more")
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("a %T signs no tokens; want RSA, elliptic curve or Ed25519", key)
	}
	return nil
}

func decode64(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
