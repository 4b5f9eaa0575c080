package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// webKey is one key of a JSON Web Key Set (RFC 7517, 7518, 8037).
type webKey struct {
	Type  string `json:"kty"`
	ID    string `json:"kid"`
	Use   string `json:"use"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
	N     string `json:"n"`
	E     string `json:"e"`
}

// parseKeySet reads a JWKS. Keys for encryption and symmetric ones are left out; a
// set without any other is an error.
func parseKeySet(data []byte) (publicKeys, error) {
	var set struct {
		Keys []webKey `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("neither PEM nor a JSON Web Key Set: %w", err)
	}
	keys := publicKeys{}
	for i, k := range set.Keys {
		if k.Use != "" && k.Use != "sig" || k.Type == "oct" {
			continue
		}
		key, err := k.public()
		if err == nil {
			err = usable(key)
		}
		if err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		keys[k.ID] = append(keys[k.ID], key)
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it that signs")
	}
	return keys, nil
}

func (k webKey) public() (crypto.PublicKey, error) {
	x, errX := decode64(k.X)
	y, errY := decode64(k.Y)
	n, errN := decode64(k.N)
	e, errE := decode64(k.E)
	if err := errors.Join(errX, errY, errN, errE); err != nil {
		return nil, err
	}
	switch {
	case k.Type == "RSA":
		exponent := new(big.Int).SetBytes(e)
		if !exponent.IsInt64() || exponent.Int64() > 1<<31-1 {
			return nil, errors.New("the RSA exponent is too large")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case k.Type == "OKP" && k.Curve == "Ed25519" && len(x) == ed25519.PublicKeySize:
		return ed25519.PublicKey(x), nil
	case k.Type == "EC":
		curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}
		curve := curves[k.Curve]
		if curve == nil {
			return nil, fmt.Errorf("curve %.20q is not known", k.Curve)
		}
		size := (curve.Params().BitSize + 7) / 8
		if len(x) != size || len(y) != size {
			return nil, errors.New("the point has not the curve's size")
		}
		return ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	}
	return nil, fmt.Errorf("a key of type %.20q %.20q is not known", k.Type, k.Curve)
}
