package auth

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// maxPasswords bounds an htpasswd file in bytes.
const maxPasswords = 16 << 20

// maxCost bounds what one login may cost: 2^14 rounds are about a second.
const maxCost = 14

// users are the hashes of passwords by name.
type users struct {
	hashes map[string][]byte
	cost   int // the highest, which is what an unknown user's login costs
}

// readUsers reads an htpasswd file.
func readUsers(path string) (users, error) {
	f, err := os.Open(path)
	if err != nil {
		return users{}, fmt.Errorf("read passwords: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPasswords+1))
	if err != nil {
		return users{}, fmt.Errorf("read passwords: %w", err)
	}
	u, err := parseUsers(data)
	if err != nil {
		return users{}, fmt.Errorf("%s:%w", path, err)
	}
	return u, nil
}

// parseUsers reads lines USER:HASH; empty lines and those that begin with # are left out.
// Errors begin with the line's number, and never show a hash.
func parseUsers(data []byte) (users, error) {
	if len(data) > maxPasswords {
		return users{}, fmt.Errorf("1: longer than %d bytes", maxPasswords)
	}
	u := users{hashes: map[string][]byte{}, cost: bcrypt.MinCost}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return users{}, fmt.Errorf("%d: want USER:HASH", n)
		}
		if _, again := u.hashes[name]; again {
			return users{}, fmt.Errorf("%d: user %s is there already", n, name)
		}
		if kind := hashKind(hash); kind != "bcrypt" {
			return users{}, fmt.Errorf("%d: user %s: the hash is %s; only bcrypt is safe enough: htpasswd -B makes it", n, name, kind)
		}
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil || len(hash) != 60 {
			return users{}, fmt.Errorf("%d: user %s: the bcrypt hash is damaged", n, name)
		}
		if cost > maxCost {
			return users{}, fmt.Errorf("%d: user %s: cost %d is more than %d: every login would take seconds", n, name, cost, maxCost)
		}
		u.hashes[name] = []byte(hash)
		u.cost = max(u.cost, cost)
	}
	if err := lines.Err(); err != nil {
		return users{}, fmt.Errorf("1: %w", err)
	}
	return u, nil
}

// hashKind names the kinds of hashes that htpasswd programs write.
func hashKind(hash string) string {
	for _, k := range []struct{ prefix, name string }{
		{"$2a$", "bcrypt"}, {"$2b$", "bcrypt"}, {"$2y$", "bcrypt"},
		{"$apr1$", "MD5 (apr1)"}, {"$1$", "MD5"}, {"{SHA}", "SHA-1"}, {"{SSHA}", "salted SHA-1"},
		{"$5$", "SHA-256 crypt"}, {"$6$", "SHA-512 crypt"}, {"$argon2", "argon2"}, {"$y$", "yescrypt"},
	} {
		if strings.HasPrefix(hash, k.prefix) {
			return k.name
		}
	}
	return "crypt or plain text"
}
