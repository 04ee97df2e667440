"""Material from nothing, made by synthesis alone: jungle, and a broad mode that holds what jungle does not.

Rooms, lower to higher:
    dsp         arrays, dice and filters
    effects     room, tape, dynamics, mastering
    synthesis   sums of sines, oscillators, and instruments as rows of tables
    tune        key, tempo, chords, and figures played on them
    harmony     pads and stabs
what plays in either mode:
    bass        lines and what plays them
    drums       voices and kits
    held        drones, bowed lines, organs, pads
    noises      weather, machines, radio, grains; risers, impacts, sirens
    notes       figures on what is plucked or struck
    percussion  blows with silence between them
    speech      voices that say nothing
    sweeps      glides, birds, theremins, zaps
jungle:
    breaks      grooves played on a kit and recorded; what is struck on each 16th
    chops       breaks cut into hits and put together again
    score       the plan of a track, before a sample is made
    drumming    the drum bus of a plan
    track       a plan turned into sound
the broad mode (tones, notes, voices, weather, near silence), for training codecs:
    broad       the plan of a track
    broad_mix   a plan turned into sound
and of both:
    library     a set of tracks turned into files

Sound is float32, [2, T] for stereo and [T] for mono, at `dsp.SR` = 44,100 Hz. The same seed gives the same samples:
every part of a track has dice of its own (`dsp.rng_of`), and nothing here depends on the number of threads.
"""
