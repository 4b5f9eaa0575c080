package auth

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func TestBruteForce(t *testing.T) {
	w := open(t, "  failures: {free: 3, pause: 1s, max: 1m}\n")
	for i := range 3 {
		if got := w.get(t, "/pull/x", "alice:wrong"+strconv.Itoa(i)).StatusCode; got != 401 {
			t.Fatalf("failure %d: %d", i, got)
		}
	}
	resp := w.get(t, "/pull/x", "alice")
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("the right password within the pause: %d %v", resp.StatusCode, resp.Header)
	}
	if got := w.get(t, "/pull/x", "bob").StatusCode; got != 200 {
		t.Errorf("another user: %d", got)
	}
	w.clock.add(time.Second)
	w.get(t, "/pull/x", "alice:wrong")
	w.clock.add(time.Second)
	if got := w.get(t, "/pull/x", "alice").StatusCode; got != http.StatusTooManyRequests {
		t.Errorf("the second pause is no longer than the first: %d", got)
	}
	w.clock.add(time.Second)
	for range 2 { // the first forgets the failures
		if got := w.get(t, "/pull/x", "alice").StatusCode; got != 200 {
			t.Errorf("after the pause: %d", got)
		}
	}
	w.clock.add(-10 * time.Hour) // a clock set back locks nobody out
	if got := w.get(t, "/pull/x", "alice").StatusCode; got != 200 {
		t.Errorf("a clock set back: %d", got)
	}
}

// TestBruteForceOfNames: who tries many names is slowed by address; unknown names are no different from
// known ones.
func TestBruteForceOfNames(t *testing.T) {
	w := open(t, "  failures: {free: 1, pause: 1m, max: 1h}\n")
	for i := range 10 {
		if got := w.get(t, "/pull/x", "user"+strconv.Itoa(i)).StatusCode; got != 401 {
			t.Fatalf("name %d: %d", i, got)
		}
	}
	if got := w.get(t, "/pull/x", "bob").StatusCode; got != http.StatusTooManyRequests {
		t.Errorf("the address goes on: %d", got)
	}
	req, _ := http.NewRequest("GET", w.url+"/pull/x", nil)
	req.Header = header("bob")
	req.Header.Set("X-Test-Address", "10.0.0.2")
	if got := do(t, req).StatusCode; got != 200 {
		t.Errorf("another address: %d", got)
	}
}

// TestKnownUserGoesOn: somebody who is logged in from elsewhere is not locked out by an attack
// on their name.
func TestKnownUserGoesOn(t *testing.T) {
	w := open(t, "  failures: {free: 2, pause: 1m, max: 1h}\n")
	w.get(t, "/pull/x", "alice")
	attack := func(password string) int {
		req, _ := http.NewRequest("GET", w.url+"/pull/x", nil)
		req.Header = header("alice:" + password)
		req.Header.Set("X-Test-Address", "6.6.6.6")
		return do(t, req).StatusCode
	}
	for i := range 5 {
		attack(strconv.Itoa(i))
	}
	if got := w.get(t, "/pull/x", "alice").StatusCode; got != 200 {
		t.Errorf("alice: %d", got)
	}
	if got := attack("alice-secret"); got != http.StatusTooManyRequests {
		t.Errorf("the attacker finds the password within the pause: %d", got)
	}
}

// TestManyAtOnce: the same question at one time counts once; different guesses count each.
func TestManyAtOnce(t *testing.T) {
	w := open(t, "  failures: {free: 3, pause: 1m, max: 1h}\n")
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if got := w.get(t, "/pull/x", "alice").StatusCode; got != 200 {
				t.Errorf("alice: %d", got)
			}
		})
	}
	wg.Wait()
	// Different guesses at one time are not more than those in a row.
	checked := make(chan bool, 40)
	for i := range 40 {
		wg.Go(func() {
			_, wait, err := w.passwords.check(context.Background(), "bob", "guess"+strconv.Itoa(i), "1.1.1.1")
			if err != nil {
				t.Error(err)
			}
			checked <- wait == 0
		})
	}
	wg.Wait()
	close(checked)
	n := 0
	for c := range checked {
		if c {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d guesses were checked, want 3", n)
	}
}

// TestSecretsAreNotLogged sends secrets every way they can come, and looks for them in the log.
func TestSecretsAreNotLogged(t *testing.T) {
	w := open(t, someRules+"  token-service: {refresh-ttl: 24h}\n")
	token := w.token(t, "alice", "repository:team/a:pull")
	for _, as := range []string{"alice", "alice:Wr0ng-Secret", "N4me-Secret:x", "bearer " + token, "bearer " + token[:len(token)-3] + "AAA",
		"bearer Wr0ng-Secret", "ci:" + fixedToken, "x:" + fixedToken, "bearer " + fixedToken} {
		w.get(t, "/pull/team/a", as)
		w.get(t, "/token?scope=repository:team/a:pull", as)
	}
	log := w.log.String()
	if !strings.Contains(log, "credentials refused") {
		t.Error("refusals are not logged at all")
	}
	for _, secret := range []string{"alice-secret", "Wr0ng-Secret", "N4me-Secret", fixedToken, token, token[:60], "$2a$"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q:\n%s", secret, log)
		}
	}
}

// TestCostsAreEven: a wrong password costs as much for a user with a cheap hash.
func TestCostsAreEven(t *testing.T) {
	w := open(t, "")
	dear, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost+2)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "alice:"+hash(t, "alice-secret")+"\nbob:"+string(dear)+"\n")
	w.get(t, "/pull/x", "alice")
	if n := len(w.passwords.dummies); n != 0 {
		t.Errorf("a right password costs %d more", n)
	}
	w.get(t, "/pull/x", "alice:wrong")
	for _, c := range []int{bcrypt.MinCost, bcrypt.MinCost + 1} {
		if w.passwords.dummies[c] == nil {
			t.Errorf("cost %d is not made up for", c)
		}
	}
	w.get(t, "/pull/x", "nobody")
	if w.passwords.dummies[bcrypt.MinCost+2] == nil || len(w.passwords.dummies) != 3 {
		t.Errorf("an unknown user costs something else: %d", len(w.passwords.dummies))
	}
}

func TestMemoryIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	s := &slow{free: 1, pause: time.Second, max: time.Minute, now: func() time.Time { return now }, keys: map[string]*failures{}}
	for i := range maxKeys + 100 {
		s.begin(strconv.Itoa(i))
	}
	if len(s.keys) > maxKeys {
		t.Errorf("%d keys", len(s.keys))
	}
	p := newPasswords(func() users { return users{} }, s, s, s.now)
	for i := range maxKnown + 100 {
		p.remember(p.sum(strconv.Itoa(i)))
	}
	if len(p.known) > maxKnown {
		t.Errorf("%d passwords", len(p.known))
	}
}
