package e2e

import "sync"

// model is what has to be in a store that many work on: what a command said it made, unless something that ran since
// may have taken it away. Time is counted in beginnings and ends of commands.
type model struct {
	mu      sync.Mutex
	now     int
	images  map[string]*kept  // by name
	boxes   map[string]*kept  // containers, by name
	volumes map[string]*kept  // by name
	losses  map[string][]span // what takes things away, by its kind
}

// kept is an image's name, a container, or a volume.
type kept struct {
	id    string
	text  string   // what an image prints, or a volume has
	since int      // when the command began that made it
	made  int      // when it was known to have ended
	ends  []string // the kinds of losses that end it
	by    *kept    // of an image: a container that holds it
	gone  bool
}

// span is the time in which a command may take something away; to is 0 while it runs.
type span struct{ from, to int }

// Kinds of losses. Removing an image by its ID is one for each ID.
const (
	lossImages  = "images that no container uses"  // image prune -a, system prune -a
	lossBoxes   = "containers that do not run"     // container prune, system prune
	lossVolumes = "volumes that no container uses" // volume prune -a
)

func newModel() *model {
	return &model{images: map[string]*kept{}, boxes: map[string]*kept{}, volumes: map[string]*kept{}, losses: map[string][]span{}}
}

// begin is the time at which a command begins.
func (m *model) begin() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now++
	return m.now
}

// losing says that a command begins that may take away things of some kinds, until the function it returns is called.
func (m *model) losing(kinds ...string) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now++
	at := make([]int, len(kinds))
	for i, k := range kinds {
		at[i] = len(m.losses[k])
		m.losses[k] = append(m.losses[k], span{from: m.now})
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.now++
		for i, k := range kinds {
			m.losses[k][at[i]].to = m.now
		}
	}
}

// addImage says that a command that began at since gave an image a name.
func (m *model) addImage(name, id, text string, since int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.images[name] = &kept{id: id, text: text, since: since, ends: []string{lossImages, id}}
}

// addBox says that a container of an image was made. One that runs is not for pruning.
func (m *model) addBox(name, image string, runs bool, since int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	box := &kept{since: since, made: m.now, ends: []string{lossBoxes}}
	if runs {
		box.ends = nil
	}
	m.boxes[name] = box
	if img := m.images[image]; img != nil {
		img.by = box
	}
}

// stopped says that a container no longer runs, or may not.
func (m *model) stopped(name string, since int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.boxes[name]; b != nil && b.ends == nil {
		b.since, b.ends = since, []string{lossBoxes}
	}
}

// running says that a container runs again.
func (m *model) running(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.boxes[name]; b != nil && m.stays(b) {
		b.ends = nil
	}
}

// runs tells whether a container has to be running.
func (m *model) runs(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boxes[name]
	return b != nil && b.ends == nil && !b.gone
}

// addVolume says what is in a volume.
func (m *model) addVolume(name, text string, since int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.volumes[name] = &kept{text: text, since: since, ends: []string{lossVolumes}}
}

// volumeOf is what was put into a volume, and whether it has to be there.
func (m *model) volumeOf(name string) (text string, must bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.volumes[name]
	return v.content(), v != nil && m.stays(v)
}

func (t *kept) content() string {
	if t == nil {
		return ""
	}
	return t.text
}

// takeVolume forgets a volume that is about to be removed.
func (m *model) takeVolume(name string) *kept { return m.take(m.volumes, name) }

// takeImage forgets a name that is about to be given to something else, or removed. It returns what it named, which is
// nil where that is not known.
func (m *model) takeImage(name string) *kept { return m.take(m.images, name) }

// takeBox is takeImage of a container, which holds its image no longer.
func (m *model) takeBox(name string) *kept {
	b := m.take(m.boxes, name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if b != nil {
		b.gone = true
	}
	return b
}

func (m *model) take(from map[string]*kept, name string) *kept {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := from[name]
	delete(from, name)
	return t
}

// keepImage undoes takeImage.
func (m *model) keepImage(name string, t *kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t != nil {
		m.images[name] = t
	}
}

// was tells whether something had to be there until now, whoever has taken it from the model.
func (m *model) was(t *kept) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t == nil {
		return false
	}
	u := *t
	u.gone = false
	return m.stays(&u)
}

// image is what is known of a name, and whether it has to be there.
func (m *model) image(name string) (t kept, must bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if found := m.images[name]; found != nil {
		return *found, m.stays(found)
	}
	return kept{}, false
}

// mustImage tells whether a name has to be there.
func (m *model) mustImage(name string) bool {
	_, must := m.image(name)
	return must
}

// mustBox tells whether a container has to be there.
func (m *model) mustBox(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boxes[name]
	return b != nil && m.stays(b)
}

// all are the images and the containers that have to be there, by name.
func (m *model) all() (images, boxes map[string]kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	pick := func(from map[string]*kept) map[string]kept {
		out := map[string]kept{}
		for name, t := range from {
			if m.stays(t) {
				out[name] = *t
			}
		}
		return out
	}
	return pick(m.images), pick(m.boxes)
}

// stays tells whether nothing that ran since t was made may have ended it. The caller holds m.mu.
func (m *model) stays(t *kept) bool {
	if t.gone {
		return false
	}
	for _, kind := range t.ends {
		for _, s := range m.losses[kind] {
			if s.to > 0 && s.to < t.since {
				continue // it was over before
			}
			if kind == lossImages && t.by != nil && t.by.made < s.from && m.stays(t.by) {
				continue // a container has held it all the time
			}
			return false
		}
	}
	return true
}
