// Search from file://, where browsers start no worker: the worker's script runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      const inner = frame.contentWindow;
      addEventListener("message", (event) => {
        if (event.source === inner) this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      });
      inner.document.open();
      inner.document.write(
        "<script>postMessage = (data) => parent.postMessage(data, '*');" +
          "importScripts = (...urls) => Promise.all(urls.map((url) => new Promise((resolve) => {" +
          "const script = document.createElement('script'); script.src = url; script.onload = resolve;" +
          "document.body.appendChild(script); })));<\/script>" +
          `<body><script src="${url}"><\/script></body>`
      );
      inner.document.close();
      this.ready = new Promise((resolve) => (inner.onload = resolve));
      this.inner = inner;
    }
    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {}
  };
}
