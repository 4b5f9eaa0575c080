package build

import (
	"fmt"
	"io"
	"os"
)

// readDockerfile reads no more than can be a Dockerfile: the name may be of anything.
func readDockerfile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("no Dockerfile at %s: name one with -f", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDockerfile+1))
	if err == nil && len(data) > maxDockerfile {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxDockerfile)
	}
	return data, err
}
