package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// tutorialDriver runs the lines of a file as a person would type them, and shows what they would see.
const tutorialDriver = `shopt -s expand_aliases
alias docker=nacre
while IFS= read -r line <&3; do
	case $line in
	'' | '#'*) printf '%s\n' "$line"; continue ;;
	esac
	printf '$ %s\n' "$line"
	eval "$line" 2>&1 </dev/null
	code=$?
	[ $code = 0 ] || printf '[exit code %d]\n' $code
done 3<"$1"
`

// TestTutorial: what every introduction to docker's images shows, command by command, looks as its readers expect. The
// golden file has been read by eye, beside what docker prints.
func TestTutorial(t *testing.T) {
	s := newBusybox(t)
	folder := newStore(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("wonderland"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "htpasswd")
	write(t, users, "alice:"+string(hash)+"\n")
	port := shortPort(t)
	folder.serve(t, "--dir", folder.root, "--htpasswd", users, "--addr", "127.0.0.1:"+port)

	dir := writeFiles(t, map[string]string{"hello.sh": "echo hello\n", "Dockerfile": `FROM busybox
COPY hello.sh /
RUN chmod 755 /hello.sh
ENV GREETING=hello
CMD ["sh", "/hello.sh"]
`})
	bin, home := t.TempDir(), t.TempDir()
	if err := os.Symlink(nacre, filepath.Join(bin, "nacre")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/tutorial/commands")
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(bin, "commands")
	write(t, script, strings.ReplaceAll(string(text), "localhost:5000", "localhost:"+port))
	cmd := exec.Command("bash", "-c", tutorialDriver, "tutorial", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "NACRE_ROOT="+s.root, "HOME="+home, "DOCKER_CONFIG=", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := normal{ids: map[string]string{}}
	golden(t, "testdata/tutorial/output", n.text(strings.NewReplacer(
		"localhost:"+port, "localhost:5000", home, "/root", baseTar(t, "busybox"), "busybox.tar").Replace(string(out))))
}

// shortPort is a free port of four digits, so that what is shown in columns is as wide as with another.
func shortPort(t *testing.T) string {
	t.Helper()
	for port := 5001; port < 10000; port++ {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return fmt.Sprint(port)
		}
	}
	t.Fatal("no port is free")
	return ""
}

// golden compares text with a file, which UPDATE=1 makes anew.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		write(t, file, text)
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	have := strings.Split(text, "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(have) || have[i] != line {
			got := ""
			if i < len(have) {
				got = have[i]
			}
			t.Fatalf("%s:%d: it is\n%s\nwant\n%s\nall of it:\n%s", file, i+1, got, line, text)
		}
	}
	if len(have) > strings.Count(string(want), "\n")+1 {
		t.Fatalf("%s: there is more:\n%s", file, text)
	}
}
