(() => {
  "use strict";
  // Horizontal, vertical and through-plane axis (0 R, 1 A, 2 S) and the letters left, right, top, bottom. Both axes of
  // every plane run against their index: the patient's left is on the right, as in all other pictures.
  const PLANES = [
    { name: "Axial", axes: [0, 1, 2], letters: "RLAP" },
    { name: "Coronal", axes: [0, 2, 1], letters: "RLSI" },
    { name: "Sagittal", axes: [1, 2, 0], letters: "APSI" },
  ];
  const LETTER = "#f2c14e", LINE = "#4fb3d9", FAINT = "#9a9a9a";

  async function unpacked(scan) {
    const packed = Uint8Array.from(atob(scan.voxels), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const grey = new Uint8Array(await new Response(stream).arrayBuffer());
    for (let i = 1; i < grey.length; i += 1) grey[i] = (grey[i] + grey[i - 1]) & 255;
    return grey;
  }

  const sides = (scan) => scan.shape.map((n, axis) => n * scan.spacing[axis]);

  function greys(scan, voxels, plane, at, table) {
    const [across, down, through] = plane.axes;
    const steps = [1, scan.shape[0], scan.shape[0] * scan.shape[1]];
    const width = scan.shape[across], height = scan.shape[down];
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let row = 0, pixel = 0; row < height; row += 1) {
      let place = at[through] * steps[through] + (height - 1 - row) * steps[down] + (width - 1) * steps[across];
      for (let column = 0; column < width; column += 1, pixel += 1, place -= steps[across]) {
        pixels[pixel] = table[voxels[place]];
      }
    }
    return image;
  }

  function outlined(context, text, x, y, align, baseline, colour) {
    context.textAlign = align;
    context.textBaseline = baseline;
    context.strokeStyle = "#000";
    context.fillStyle = colour;
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }

  function scaleBar(context, millimetre, width, height, pixel) {
    const length = [100, 50, 20, 10, 5, 2, 1].find((mm) => mm * millimetre < width / 3) || 1;
    const right = width - 8 * pixel, y = height - 9 * pixel;
    context.strokeStyle = "#e8e8e8";
    context.lineWidth = 2 * pixel;
    context.beginPath();
    context.moveTo(right - length * millimetre, y);
    context.lineTo(right, y);
    context.stroke();
    context.lineWidth = 3 * pixel;
    outlined(context, length + " mm", right, y - 4 * pixel, "right", "bottom", "#e8e8e8");
  }

  class Viewer {
    constructor(root) {
      this.root = root;
      this.scans = JSON.parse(document.getElementById(root.dataset.scans).textContent);
      this.canvases = [...root.querySelectorAll("canvas")];
      this.sliders = [...root.querySelectorAll("input[data-plane]")];
      this.chooser = root.querySelector("select");
      this.brightness = root.querySelector("input[name=brightness]");
      this.contrast = root.querySelector("input[name=contrast]");
      this.readOut = root.querySelector(".read-out");
      this.scratch = document.createElement("canvas");
      this.known = new Map();
      this.fraction = [0.5, 0.5, 0.5];
      this.listen();
    }

    listen() {
      this.chooser.addEventListener("change", () => this.choose(Number(this.chooser.value)));
      for (const slider of [this.brightness, this.contrast]) slider.addEventListener("input", () => this.draw());
      this.root.querySelector("button").addEventListener("click", () => {
        this.fraction = [0.5, 0.5, 0.5];
        this.brightness.value = this.contrast.value = 0;
        this.draw();
      });
      PLANES.forEach((plane, number) => {
        const canvas = this.canvases[number], slider = this.sliders[number];
        slider.addEventListener("input", () => this.move({ [plane.axes[2]]: Number(slider.value) }));
        const follow = (event) => this.follow(plane, canvas, event);
        canvas.addEventListener("pointerdown", (event) => {
          canvas.setPointerCapture(event.pointerId);
          follow(event);
        });
        canvas.addEventListener("pointermove", (event) => event.buttons && follow(event));
        canvas.addEventListener("keydown", (event) => this.step(plane, event));
        // Only once the plane was clicked or tabbed to: a page that stops scrolling under the mouse is a nuisance.
        canvas.addEventListener("wheel", (event) => {
          if (document.activeElement !== canvas) return;
          event.preventDefault();
          this.move({ [plane.axes[2]]: this.at[plane.axes[2]] - Math.sign(event.deltaY) });
        }, { passive: false });
      });
      new ResizeObserver(() => this.draw()).observe(this.root);
    }

    async choose(number) {
      this.wanted = number;
      if (!this.known.has(number)) this.known.set(number, unpacked(this.scans[number]));
      const voxels = await this.known.get(number);
      if (this.wanted !== number) return;
      this.scan = this.scans[number];
      this.voxels = voxels;
      const [x, y, z] = sides(this.scan);
      this.tall = Math.max(y, z);
      PLANES.forEach((plane, n) => {
        const wide = sides(this.scan)[plane.axes[0]];
        const figure = this.canvases[n].parentElement;
        figure.style.setProperty("--of-three", wide / (2 * x + y));
        figure.style.setProperty("--of-two", Math.min(1, wide / (2 * x)));
        this.canvases[n].style.aspectRatio = wide + " / " + this.tall;
        this.sliders[n].max = this.scan.shape[plane.axes[2]] - 1;
      });
      this.draw();
    }

    get at() {
      return this.scan.shape.map((n, axis) => Math.min(n - 1, Math.floor(this.fraction[axis] * n)));
    }

    move(places) {
      for (const [axis, place] of Object.entries(places)) {
        const n = this.scan.shape[axis];
        this.fraction[axis] = (Math.min(n - 1, Math.max(0, place)) + 0.5) / n;
      }
      this.draw();
    }

    follow(plane, canvas, event) {
      const box = canvas.getBoundingClientRect();
      const [across, down] = plane.axes;
      const extent = sides(this.scan);
      const millimetre = box.width / extent[across];
      const right = (event.clientX - box.left) / millimetre;
      const below = (event.clientY - box.top - box.height / 2) / millimetre + extent[down] / 2;
      this.move({
        [across]: Math.floor((extent[across] - right) / this.scan.spacing[across]),
        [down]: Math.floor((extent[down] - below) / this.scan.spacing[down]),
      });
    }

    step(plane, event) {
      const [across, down, through] = plane.axes;
      const steps = {
        ArrowLeft: [across, 1], ArrowRight: [across, -1], ArrowUp: [down, 1], ArrowDown: [down, -1],
        PageUp: [through, 1], PageDown: [through, -1],
      };
      if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const [axis, by] = steps[event.key];
      this.move({ [axis]: this.at[axis] + by * (event.shiftKey ? 5 : 1) });
    }

    table() {
      const level = 127.5 - 1.275 * Number(this.brightness.value);
      const width = 255 * 2 ** (-Number(this.contrast.value) / 40);
      return Uint32Array.from({ length: 256 }, (_, value) => {
        const grey = Math.max(0, Math.min(255, Math.round(((value - level) / width + 0.5) * 255)));
        return 0xff000000 | (grey << 16) | (grey << 8) | grey;
      });
    }

    draw() {
      if (!this.scan) return;
      const table = this.table(), at = this.at;
      PLANES.forEach((plane, number) => {
        this.sliders[number].value = at[plane.axes[2]];
        this.drawPlane(plane, this.canvases[number], at, table);
      });
      this.tell(at);
    }

    drawPlane(plane, canvas, at, table) {
      const pixel = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
      const width = Math.round(box.width * pixel), height = Math.round(box.height * pixel);
      if (!width || !height) return;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const [across, down] = plane.axes, extent = sides(this.scan);
      const millimetre = width / extent[across], top = (height - extent[down] * millimetre) / 2;
      const image = greys(this.scan, this.voxels, plane, at, table);
      Object.assign(this.scratch, { width: image.width, height: image.height });
      this.scratch.getContext("2d").putImageData(image, 0, 0);
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.fillStyle = "#000";
      context.fillRect(0, 0, width, height);
      context.drawImage(this.scratch, 0, top, width, extent[down] * millimetre);
      const x = (extent[across] - (at[across] + 0.5) * this.scan.spacing[across]) * millimetre;
      const y = top + (extent[down] - (at[down] + 0.5) * this.scan.spacing[down]) * millimetre;
      this.cross(context, x, y, width, height, pixel);
      context.font = "600 " + 12 * pixel + "px system-ui, sans-serif";
      context.lineWidth = 3 * pixel;
      const edge = 4 * pixel, [left, right, above, below] = plane.letters;
      outlined(context, left, edge, height / 2, "left", "middle", LETTER);
      outlined(context, right, width - edge, height / 2, "right", "middle", LETTER);
      outlined(context, above, width / 2, edge, "center", "top", LETTER);
      outlined(context, below, width / 2, height - edge, "center", "bottom", LETTER);
      outlined(context, plane.name, edge, edge, "left", "top", FAINT);
      if (plane.name === "Axial") scaleBar(context, millimetre, width, height, pixel);
    }

    cross(context, x, y, width, height, pixel) {
      const gap = 6 * pixel;
      context.strokeStyle = LINE;
      context.globalAlpha = 0.7;
      context.lineWidth = pixel;
      context.beginPath();
      for (const [x1, y1, x2, y2] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap],
        [x, y + gap, x, height]]) {
        context.moveTo(x1, y1);
        context.lineTo(x2, y2);
      }
      context.stroke();
      context.globalAlpha = 1;
    }

    tell(at) {
      const place = this.scan.affine.map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3]);
      const words = place.map((mm, axis) => ["LR", "PA", "IS"][axis][mm >= 0 ? 1 : 0] + " " + Math.abs(mm).toFixed(1));
      const [low, high] = this.scan.window, n = this.scan.shape;
      const grey = this.voxels[at[0] + n[0] * (at[1] + n[1] * at[2])];
      const bound = grey === 0 ? "at most " : grey === 255 ? "at least " : "about ";
      const intensity = Number((low + (grey / 255) * (high - low)).toPrecision(3));
      this.readOut.textContent = words.join("  ") + " mm; intensity " + bound + intensity;
    }
  }

  function offerCopies() {
    for (const button of document.querySelectorAll("button.copy")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        const source = document.getElementById(button.dataset.copies);
        const range = document.createRange();
        range.selectNodeContents(source);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        try {
          await navigator.clipboard.writeText(source.innerText);
          button.textContent = "Copied";
        } catch {
          button.textContent = "Selected: press Ctrl+C";
        }
      });
    }
  }

  offerCopies();
  for (const root of document.querySelectorAll(".viewer")) {
    const viewer = new Viewer(root);
    root.classList.add("ready");
    viewer.choose(0).catch(() => root.classList.remove("ready"));
  }
})();
